//! `#[activities]` on an `impl`.
//!
//! ```text
//!   #[activities] impl Payments { #[activity] pub async fn refund(&self, id: String) -> .. { .. }  fn other() }
//!
//!   impl Payments { pub fn refund(id: String) -> Call<Payments_refund> { .. }  fn other() }
//!   pub trait PaymentsActivities { fn refund(&self, id: String) -> impl Future + Send; }
//!   impl PaymentsActivities for Payments { async fn refund(&self, id: String) -> .. { .. } }
//!   impl Activities for Payments { .. }
//! ```
//! A method call finds the trait's method, since the associated function of the same name takes no
//! `self`; a path finds the associated function first.

use proc_macro2::{TokenStream, TokenTree};
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, FnArg, Generics, Ident, Meta, Result, Token, Type, Visibility, WhereClause, braced};

use crate::attribute::{Activity, Named, combine, error, root};
use crate::definition::Definition;
use crate::function::Function;

pub fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let group: Group = match syn::parse2(item) {
        Ok(group) => group,
        Err(error) => return error.into_compile_error(),
    };
    group.expand(attribute).unwrap_or_else(|error| {
        let (error, plain) = (error.into_compile_error(), group.plain());
        quote!(#error #plain)
    })
}

/// An `impl`: functions up to their bodies, all else as it came.
struct Group {
    attributes: Vec<Attribute>,
    generics: Generics,
    ty: Type,
    clause: Option<WhereClause>,
    methods: Vec<Method>,
    others: Vec<TokenStream>,
}

/// A method with `#[activity]`, which is taken off it.
struct Method {
    attribute: Attribute,
    function: Function,
}

impl Parse for Group {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let misplaced = "`#[activities]` belongs on an `impl` of a type";
        input.parse::<Token![impl]>().map_err(|error| Error::new(error.span(), misplaced))?;
        let generics = input.parse()?;
        let ty = input.parse()?;
        if let Some(token) = input.parse::<Option<Token![for]>>()? {
            return Err(error(&token, "`#[activities]` belongs on an `impl` of a type, not of a trait"));
        }
        let clause = input.parse()?;
        let content;
        braced!(content in input);
        let (mut methods, mut others) = (Vec::new(), Vec::new());
        while !content.is_empty() {
            let fork = content.fork();
            if fork.call(Attribute::parse_outer)?.iter().any(is_activity) {
                methods.push(method(&content)?);
            } else {
                others.push(other(&content)?);
            }
        }
        Ok(Self { attributes, generics, ty, clause, methods, others })
    }
}

fn is_activity(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|last| last.ident == "activity")
}

fn method(content: ParseStream<'_>) -> Result<Method> {
    let attributes = content.call(Attribute::parse_outer)?;
    let visibility = content.parse()?;
    let signature = content.parse()?;
    let body: TokenTree = content.parse()?;
    let (ours, attributes): (Vec<_>, Vec<_>) = attributes.into_iter().partition(is_activity);
    let [attribute] = <[Attribute; 1]>::try_from(ours)
        .map_err(|ours| error(ours.last().expect("it was seen"), "`#[activity]` stands here twice"))?;
    Ok(Method { attribute, function: Function { attributes, visibility, signature, body: body.into() } })
}

/// The tokens of one item: up to a block or a semicolon.
fn other(content: ParseStream<'_>) -> Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !content.is_empty() {
        let token: TokenTree = content.parse()?;
        let last = match &token {
            TokenTree::Group(group) => group.delimiter() == proc_macro2::Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        };
        tokens.extend([token]);
        if last {
            break;
        }
    }
    Ok(tokens)
}

impl Group {
    /// The `impl` without our attributes, for beside an error.
    fn plain(&self) -> TokenStream {
        let Self { attributes, generics, ty, clause, methods, others } = self;
        let methods = methods.iter().map(|method| &method.function);
        quote! {
            #(#attributes)*
            #[allow(dead_code)]
            impl #generics #ty #clause { #(#others)* #(#methods)* }
        }
    }

    fn expand(&self, attribute: TokenStream) -> Result<TokenStream> {
        let named = Named::parse(attribute, &["name", "crate"])?;
        let ident = self.ident()?;
        let group = named.name.as_ref().map_or_else(|| ident.to_string(), syn::LitStr::value);
        let root = root(named.krate.as_ref());
        if self.methods.is_empty() {
            return Err(error(&self.ty, "no method here has `#[activity]`"));
        }

        let mut errors = Vec::new();
        let mut parts = Vec::new();
        for method in &self.methods {
            match self.method(method, ident, &group, &root) {
                Ok(part) => parts.push(part),
                Err(error) => errors.push(error),
            }
        }
        combine(errors)?;

        let Self { attributes, ty, others, .. } = self;
        let cfgs: Vec<_> = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
        let calls = parts.iter().map(|part| &part.call);
        let definitions = parts.iter().map(|part| &part.definition);
        let declarations = parts.iter().map(|part| &part.declaration);
        let bodies = parts.iter().map(|part| &part.body);
        let entries = parts.iter().map(|part| &part.entry);
        let bodies_trait = format_ident!("{ident}Activities", span = ident.span());
        let visibility = self.visibility();
        let doc = format!("The bodies of the activities of [`{ident}`], for calls on a value.");
        Ok(quote! {
            #(#attributes)*
            impl #ty { #(#calls)* #(#others)* }

            #(#definitions)*

            #(#cfgs)*
            #[doc = #doc]
            #[allow(dead_code)]
            #visibility trait #bodies_trait { #(#declarations)* }

            #(#attributes)*
            impl #bodies_trait for #ty { #(#bodies)* }

            #(#cfgs)*
            #[allow(deprecated)]
            impl #root::Activities for #ty {
                fn entries(self: #root::Arc<Self>) -> ::std::vec::Vec<#root::ActivityEntry> {
                    let mut entries = ::std::vec::Vec::new();
                    #(#entries)*
                    entries
                }
            }
        })
    }

    /// The name of the type, which must have no parameters.
    fn ident(&self) -> Result<&Ident> {
        let generic = "activities are found by their names alone, so their type cannot be generic: name the types, or hold \
                       an `Arc<dyn Trait>`";
        if !self.generics.params.is_empty() {
            return Err(error(&self.generics, generic));
        }
        let Type::Path(path) = &self.ty else {
            return Err(error(&self.ty, "`#[activities]` belongs on an `impl` of a struct or enum"));
        };
        let last = path.path.segments.last().expect("a path has a segment");
        if !last.arguments.is_none() {
            return Err(error(&self.ty, generic));
        }
        Ok(&last.ident)
    }

    /// That of the methods if they agree, else the crate's.
    fn visibility(&self) -> Visibility {
        let mut all = self.methods.iter().map(|method| &method.function.visibility);
        match all.next() {
            Some(first) if all.all(|other| other == first) => first.clone(),
            _ => syn::parse_quote!(pub(crate)),
        }
    }

    fn method(&self, method: &Method, ident: &Ident, group: &str, root: &TokenStream) -> Result<Part> {
        let Method { attribute, function } = method;
        let what = "an activity";
        let options = match &attribute.meta {
            Meta::Path(_) => Activity::default(),
            meta => syn::parse2(meta.require_list()?.tokens.clone())?,
        };
        check_receiver(function)?;
        let name = options.name.as_ref();
        let definition = Definition::read(function, what, name, Some((ident, group)), root.clone())?;
        let definition = definition.batched_if(options.batch.is_some())?;
        self.part(function, &options, &definition)
    }

    fn part(&self, function: &Function, options: &Activity, definition: &Definition) -> Result<Part> {
        let (root, bodies_of) = (&definition.root, &self.ty);
        let cfgs = function.cfgs();
        let method = &function.signature.ident;
        let locals = definition.locals();
        let asyncness = &function.signature.asyncness;
        let wait = asyncness.map(|_| quote!(.await));
        // By the trait of bodies: the associated function of the same name is the call.
        let bodies_trait = format_ident!("{}Activities", self.ident()?);
        let returned = quote!(<#bodies_of as #bodies_trait>::#method(&*__everpulse_self, #(#locals),*) #wait);
        let blocking = asyncness.is_none();
        let shared = quote!(let __everpulse_self = #root::Arc::clone(&this););
        let made = definition.entry(options, blocking, &returned, &shared);
        let common = definition.common(function);
        let activity = definition.activity_definition(options)?;
        Ok(Part {
            call: definition.call(function),
            definition: quote!(#common #(#cfgs)* #activity),
            declaration: declaration(function, &function.returns()?.ty),
            body: without_deprecated(function).body_as(method, &Visibility::Inherited),
            entry: quote! {
                #(#cfgs)*
                entries.push({
                    let this = #root::Arc::clone(&self);
                    #made
                });
            },
        })
    }
}

/// What is made of one method.
struct Part {
    call: TokenStream,
    definition: TokenStream,
    declaration: TokenStream,
    body: TokenStream,
    entry: TokenStream,
}

fn check_receiver(function: &Function) -> Result<()> {
    let hint = "a worker shares the value among all attempts: an activity takes `&self`";
    match function.signature.inputs.first() {
        Some(FnArg::Receiver(receiver))
            if receiver.reference.is_some() && receiver.mutability.is_none() && receiver.colon_token.is_none() =>
        {
            Ok(())
        }
        Some(FnArg::Receiver(receiver)) => Err(error(receiver, hint)),
        _ => Err(error(
            &function.signature.ident,
            "this has no `&self`: make it a function outside of the `impl`, with `#[activity]`",
        )),
    }
}

/// In an `impl` of a trait `#[deprecated]` means nothing, and is refused.
fn without_deprecated(function: &Function) -> Function {
    let mut function = function.clone();
    function.attributes.retain(|attribute| !attribute.path().is_ident("deprecated"));
    function
}

/// The method in the trait of bodies. An async one is `Send`, as workers run it.
fn declaration(function: &Function, returns: &Type) -> TokenStream {
    let cfgs = function.cfgs();
    let docs = function
        .attributes
        .iter()
        .filter(|attribute| ["doc", "deprecated"].iter().any(|name| attribute.path().is_ident(name)));
    let mut signature = function.signature.clone();
    for input in &mut signature.inputs {
        if let FnArg::Typed(argument) = input
            && let syn::Pat::Ident(ident) = &mut *argument.pat
        {
            ident.mutability = None;
        }
    }
    if signature.asyncness.take().is_some() {
        signature.output = syn::parse_quote!(-> impl ::core::future::Future<Output = #returns> + ::core::marker::Send);
    }
    quote!(#(#cfgs)* #(#docs)* #[allow(clippy::missing_errors_doc)] #signature;)
}
