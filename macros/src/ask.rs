//! `#[query]` and `#[update]` on a struct or enum: what is asked of a run, with the type of the reply.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Ident, LitStr, Path, Result, Type};

use crate::attribute::{Asked, error, root};

pub fn query(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let known = &["name", "reply", "crate"];
    expand(&item, Asking::parse("query", attribute, known, &item).map(|asking| asking.query()))
}

pub fn update(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let known = &["name", "reply", "error", "crate"];
    expand(&item, Asking::parse("update", attribute, known, &item).map(|asking| asking.update()))
}

fn expand(item: &TokenStream, implementation: Result<TokenStream>) -> TokenStream {
    let implementation = implementation.unwrap_or_else(Error::into_compile_error);
    quote!(#item #implementation)
}

/// A type that is asked.
struct Asking {
    ident: Ident,
    cfgs: TokenStream,
    root: TokenStream,
    name: String,
    reply: Type,
    error: Option<Type>,
}

impl Asking {
    fn parse(what: &str, attribute: TokenStream, known: &'static [&'static str], item: &TokenStream) -> Result<Self> {
        let asked = Asked::parse(attribute, known)?;
        let input: DeriveInput = syn::parse2(item.clone())?;
        if !input.generics.params.is_empty() {
            let message =
                format!("{what} types cannot be generic, as they are found by their name alone: name the types");
            return Err(error(&input.generics, &message));
        }
        let ident = input.ident;
        let Asked { name, reply, error: refusal, krate } = asked;
        let reply = reply.ok_or_else(|| {
            let message = format!("what is the reply? write `#[{what}(reply = u32)]`, or `reply = ()` for none");
            error(&ident, &message)
        })?;
        let name = name.as_ref().map_or_else(|| ident.unraw().to_string(), LitStr::value);
        let cfgs = input.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
        Ok(Self {
            cfgs: quote!(#(#cfgs)*),
            root: root(krate.as_ref() as Option<&Path>),
            name,
            reply,
            error: refusal,
            ident,
        })
    }

    fn update(&self) -> TokenStream {
        let Self { ident, cfgs, root, name, reply, error } = self;
        let asserted = quote_spanned!(reply.span()=> let _ = #root::assert_output::<#reply>;);
        let refused = error.as_ref().map(|error| quote_spanned!(error.span()=> let _ = #root::assert_error::<#error>;));
        let error = error.as_ref().map_or_else(|| quote!(#root::Never), |error| quote!(#error));
        quote! {
            #cfgs
            impl #root::Update for #ident {
                const NAME: &'static str = #name;
                type Reply = #reply;
                type Error = #error;

                fn schemas() -> #root::Schemas {
                    #[allow(unused_imports)]
                    use #root::NoSchema as _;
                    #root::Schemas::of_update(
                        <#root::Shape<#ident>>::schema,
                        <#root::Shape<#reply>>::schema,
                        <#root::Shape<#error>>::schema,
                    )
                }
            }
            #cfgs
            const _: () = {
                #[allow(dead_code)]
                fn assert() {
                    #asserted
                    #refused
                }
            };
        }
    }

    fn query(&self) -> TokenStream {
        let Self { ident, cfgs, root, name, reply, error: _ } = self;
        let asserted = quote_spanned!(reply.span()=> let _ = #root::assert_output::<#reply>;);
        quote! {
            #cfgs
            impl #root::Query for #ident {
                const NAME: &'static str = #name;
                type Reply = #reply;

                fn schemas() -> #root::Schemas {
                    #[allow(unused_imports)]
                    use #root::NoSchema as _;
                    #root::Schemas::of_query(<#root::Shape<#ident>>::schema, <#root::Shape<#reply>>::schema)
                }
            }
            #cfgs
            const _: () = {
                #[allow(dead_code)]
                fn assert() {
                    #asserted
                }
            };
        }
    }
}
