//! `select!`: tokio's syntax, polled in source order.
//!
//! ```text
//!   PATTERN = FUTURE, if GUARD => HANDLER        guard ─► future ─► polls ─► pattern fits? ─► handler
//! ```
//! The handlers stand outside of the future that polls, so `?`, `return`, `break` and `.await` in them
//! mean what they say.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::visit_mut::{self, VisitMut};
use syn::{Expr, Ident, Pat, Result, Token};

use crate::join::split;

struct Branch {
    pattern: Pat,
    future: Expr,
    guard: Option<Expr>,
    handler: Expr,
}

struct Select {
    branches: Vec<Branch>,
    otherwise: Option<Expr>,
}

impl Parse for Select {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut select = Self { branches: Vec::new(), otherwise: None };
        let fork = input.fork();
        if fork.parse::<Ident>().is_ok_and(|word| word == "biased") && fork.peek(Token![;]) {
            input.parse::<Ident>()?;
            input.parse::<Token![;]>()?;
        }
        while !input.is_empty() {
            if input.peek(Token![else]) {
                input.parse::<Token![else]>()?;
                input.parse::<Token![=>]>()?;
                select.otherwise = Some(handler(input)?);
                if !input.is_empty() {
                    return Err(input.error("`else` is the last branch"));
                }
                break;
            }
            let pattern = Pat::parse_multi_with_leading_vert(input)?;
            input.parse::<Token![=]>()?;
            let future = input.parse()?;
            let guard = if input.peek(Token![,]) {
                input.parse::<Token![,]>()?;
                input.parse::<Token![if]>()?;
                Some(input.parse()?)
            } else {
                None
            };
            input.parse::<Token![=>]>()?;
            select.branches.push(Branch { pattern, future, guard, handler: handler(input)? });
        }
        if select.branches.is_empty() && select.otherwise.is_none() {
            return Err(input.error("`select!` needs a branch: `PATTERN = FUTURE => HANDLER`"));
        }
        Ok(select)
    }
}

/// A block, after which a comma may be left out; or an expression.
fn handler(input: ParseStream<'_>) -> Result<Expr> {
    if input.peek(syn::token::Brace) {
        let block: syn::ExprBlock = input.parse()?;
        if input.peek(Token![,]) {
            input.parse::<Token![,]>()?;
        }
        return Ok(Expr::Block(block));
    }
    let expression = input.parse()?;
    if !input.is_empty() {
        input.parse::<Token![,]>()?;
    }
    Ok(expression)
}

pub fn expand(input: TokenStream) -> TokenStream {
    let (krate, input) = split(input);
    let root = quote!(#krate::__private);
    let select: Select = match syn::parse2(input) {
        Ok(select) => select,
        Err(error) => return error.into_compile_error(),
    };
    let Select { branches, otherwise } = select;
    let count = branches.len();
    let names = |prefix: &'static str| -> Vec<Ident> {
        (0..count).map(|index| format_ident!("{prefix}{index}", span = Span::mixed_site())).collect()
    };
    let (variants, enabled, futures) = (names("Branch"), names("enabled_"), names("future_"));
    // Types know no hygiene, so this one has a name that no author gives; variables are ours alone.
    let kind = Ident::new("__EverpulseOutcome", Span::mixed_site());
    let outcome = Ident::new("outcome", Span::mixed_site());
    let guards = branches.iter().map(|branch| match &branch.guard {
        Some(guard) => quote!(#guard),
        None => quote!(true),
    });
    let expressions = branches.iter().map(|branch| &branch.future);
    let polls = branches.iter().enumerate().map(|(index, branch)| {
        let (variant, enabled, future) = (&variants[index], &enabled[index], &futures[index]);
        let mut pattern = branch.pattern.clone();
        Peek.visit_pat_mut(&mut pattern);
        quote! {
            if #enabled {
                match ::core::future::Future::poll(#future.as_mut(), cx) {
                    #root::Poll::Pending => pending = true,
                    #root::Poll::Ready(value) => {
                        #enabled = false;
                        #[allow(unused_variables, unreachable_patterns, clippy::all, clippy::pedantic)]
                        let fits = match &value {
                            #pattern => true,
                            _ => false,
                        };
                        if fits {
                            return #root::Poll::Ready(#kind::#variant(value));
                        }
                    }
                }
            }
        }
    });
    let arms = branches
        .iter()
        .zip(&variants)
        .map(|(Branch { pattern, handler, .. }, variant)| quote!(#kind::#variant(#pattern) => #handler,));
    let otherwise = match otherwise {
        Some(handler) => quote!(#handler),
        None => quote!(::core::panic!("no branch of `select!` is left, and there is no `else`")),
    };
    quote! {{
        #[allow(non_camel_case_types, dead_code, clippy::all, clippy::pedantic)]
        enum #kind<#(#variants),*> {
            #(#variants(#variants),)*
            NoneLeft,
        }
        #[allow(unused_mut, unused_variables, clippy::all, clippy::pedantic)]
        let #outcome = {
            #( let mut #enabled: bool = #guards; )*
            #( let mut #futures = ::core::pin::pin!(::core::future::IntoFuture::into_future(#expressions)); )*
            #root::poll_fn(|cx| {
                let cx: &mut ::core::task::Context<'_> = cx;
                let mut pending = false;
                #(#polls)*
                if pending { #root::Poll::Pending } else { #root::Poll::Ready(#kind::NoneLeft) }
            })
            .await
        };
        #[allow(unreachable_patterns)]
        match #outcome {
            #(#arms)*
            #kind::NoneLeft => #otherwise,
            _ => ::core::unreachable!("the pattern was tried before"),
        }
    }}
}

/// Makes a pattern fit a reference to the value, so that it can be tried before the value is moved.
struct Peek;

impl VisitMut for Peek {
    fn visit_pat_mut(&mut self, pattern: &mut Pat) {
        if let Pat::Reference(reference) = pattern {
            *pattern = (*reference.pat).clone();
            return self.visit_pat_mut(pattern);
        }
        visit_mut::visit_pat_mut(self, pattern);
    }

    fn visit_pat_ident_mut(&mut self, ident: &mut syn::PatIdent) {
        ident.by_ref = None;
        ident.mutability = None;
        visit_mut::visit_pat_ident_mut(self, ident);
    }
}
