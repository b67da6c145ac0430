//! `#[signal]` on a struct or enum.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{DeriveInput, LitStr, Result};

use crate::attribute::{Named, error, root};

pub fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    match implement(attribute, item.clone()) {
        Ok(implementation) => quote!(#item #implementation),
        Err(error) => {
            let error = error.into_compile_error();
            quote!(#item #error)
        }
    }
}

fn implement(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let named = Named::parse(attribute, &["name", "crate"])?;
    let input: DeriveInput = syn::parse2(item)?;
    if !input.generics.params.is_empty() {
        return Err(error(
            &input.generics,
            "a signal cannot be generic, as it is found by its name alone: name the types",
        ));
    }
    let cfgs = input.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    let ident = &input.ident;
    let root = root(named.krate.as_ref());
    let name = named.name.as_ref().map_or_else(|| ident.unraw().to_string(), LitStr::value);
    Ok(quote! {
        #(#cfgs)*
        impl #root::Signal for #ident {
            const NAME: &'static str = #name;

            fn schemas() -> #root::Schemas {
                #[allow(unused_imports)]
                use #root::NoSchema as _;
                #root::Schemas::of_signal(<#root::Shape<#ident>>::schema)
            }
        }
    })
}
