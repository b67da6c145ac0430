//! `join!` and `try_join!`: any number of branches, polled in source order.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{format_ident, quote};
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Expr, Ident, Result, Token};

pub fn join(input: TokenStream) -> TokenStream {
    expand(input, |root, branches| {
        quote! {
            let mut pending = false;
            #( pending |= !#branches.poll(cx); )*
            if pending {
                return #root::Poll::Pending;
            }
            #root::Poll::Ready((#(#branches.take(),)*))
        }
    })
}

pub fn try_join(input: TokenStream) -> TokenStream {
    expand(input, |root, branches| {
        quote! {
            let mut pending = false;
            #(
                match #branches.try_poll(cx) {
                    ::core::result::Result::Ok(done) => pending |= !done,
                    ::core::result::Result::Err(error) => {
                        return #root::Poll::Ready(::core::result::Result::Err(error));
                    }
                }
            )*
            if pending {
                return #root::Poll::Pending;
            }
            #root::Poll::Ready(::core::result::Result::Ok((#(#branches.take_value(),)*)))
        }
    })
}

/// The crate's path that the wrapping macro put first, and what the author wrote.
pub fn split(input: TokenStream) -> (TokenTree, TokenStream) {
    let mut tokens = input.into_iter();
    let krate = tokens.next().expect("`macro_rules!` in the sdk puts `$crate` first");
    (krate, tokens.collect())
}

fn expand(input: TokenStream, poll: impl FnOnce(&TokenStream, &[Ident]) -> TokenStream) -> TokenStream {
    let (krate, input) = split(input);
    let root = quote!(#krate::__private);
    let futures = match parse(input) {
        Ok(futures) => futures,
        Err(error) => return error.into_compile_error(),
    };
    let branches: Vec<_> =
        (0..futures.len()).map(|index| format_ident!("branch_{index}", span = Span::mixed_site())).collect();
    let poll = poll(&root, &branches);
    quote! {{
        #( let mut #branches = #root::Branch::new(#futures); )*
        #root::poll_fn(move |cx| {
            #[allow(unused_variables, unused_mut)]
            let cx: &mut ::core::task::Context<'_> = cx;
            #poll
        })
        .await
    }}
}

fn parse(input: TokenStream) -> Result<Vec<Expr>> {
    let parser = |input: ParseStream<'_>| Punctuated::<Expr, Token![,]>::parse_terminated(input);
    Ok(parser.parse2(input)?.into_iter().collect())
}
