//! An author's function, read as far as its signature; the body stays tokens.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, Pat, PathArguments, Result, ReturnType, Signature, Type,
    Visibility,
};

use crate::attribute::{combine, error};

/// A function before its body.
#[derive(Clone)]
pub struct Function {
    pub attributes: Vec<Attribute>,
    pub visibility: Visibility,
    pub signature: Signature,
    pub body: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input
            .parse()
            .map_err(|error| Error::new(error.span(), format!("this attribute belongs on a function: {error}")))?;
        let body = input.parse()?;
        Ok(Self { attributes, visibility, signature, body })
    }
}

/// A parameter: a name and a type.
pub struct Parameter {
    pub ident: Ident,
    pub ty: Type,
}

impl Parameter {
    /// The name on the wire.
    pub fn name(&self) -> String {
        self.ident.unraw().to_string()
    }
}

/// What a function returns.
pub struct Returns {
    pub ty: Type,
    /// It is spelled `..Result<..>`.
    pub is_result: bool,
}

impl Function {
    /// The parameters, without the receiver.
    ///
    /// # Errors
    /// All that cannot be sent to another process, with a hint each.
    pub fn parameters(&self, what: &str) -> Result<Vec<Parameter>> {
        let mut errors = Vec::new();
        let mut parameters: Vec<Parameter> = Vec::new();
        self.check_signature(what, &mut errors);
        for argument in &self.signature.inputs {
            let FnArg::Typed(argument) = argument else { continue };
            let Pat::Ident(name) = &*argument.pat else {
                errors.push(error(
                    &argument.pat,
                    "an argument travels under its parameter's name: give it a name here, and take it apart in the body",
                ));
                continue;
            };
            if name.by_ref.is_some() || name.subpat.is_some() {
                errors.push(error(name, "an argument travels under its parameter's name: give it a plain name here"));
                continue;
            }
            check_type(&argument.ty, &mut errors);
            parameters.push(Parameter { ident: name.ident.clone(), ty: (*argument.ty).clone() });
        }
        if let Some(thirteenth) = parameters.get(12) {
            errors.push(error(&thirteenth.ident, "at most twelve arguments: put them into a struct"));
        }
        combine(errors)?;
        Ok(parameters)
    }

    fn check_signature(&self, what: &str, errors: &mut Vec<Error>) {
        let Signature { constness, unsafety, abi, generics, variadic, .. } = &self.signature;
        if let Some(constness) = constness {
            errors.push(error(constness, &format!("{what} cannot be `const`")));
        }
        if let Some(unsafety) = unsafety {
            errors.push(error(
                unsafety,
                &format!("{what} cannot be `unsafe`, as others call it: put an `unsafe` block into the body"),
            ));
        }
        if let Some(abi) = abi {
            errors.push(error(abi, &format!("{what} cannot be `extern`: call the foreign function in the body")));
        }
        if let Some(variadic) = variadic {
            errors.push(error(variadic, &format!("{what} has a fixed number of arguments: take a `Vec`")));
        }
        if !generics.params.is_empty() {
            errors.push(error(
                generics,
                &format!(
                    "{what} cannot be generic, as it is found by its name alone: name the types, write one function for \
                     each, and share their code in a generic helper; for interchangeable behaviour put it on a struct \
                     with an `Arc<dyn Trait>` and use `#[activities]`"
                ),
            ));
        } else if let Some(clause) = &generics.where_clause {
            errors.push(error(clause, &format!("{what} cannot have a `where` clause, as it cannot be generic")));
        }
    }

    pub fn returns(&self) -> Result<Returns> {
        let ReturnType::Type(_, ty) = &self.signature.output else {
            return Ok(Returns { ty: syn::parse_quote!(()), is_result: false });
        };
        let mut errors = Vec::new();
        check_return(ty, &mut errors);
        combine(errors)?;
        Ok(Returns { ty: (**ty).clone(), is_result: is_spelled_result(ty) })
    }

    /// Attributes for everything that is made of the function.
    pub fn cfgs(&self) -> Vec<&Attribute> {
        self.attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
    }

    /// Attributes for the call: what readers and compilers are told of the function.
    pub fn call_attributes(&self) -> Vec<&Attribute> {
        let shared = ["cfg", "doc", "deprecated", "allow"];
        self.attributes.iter().filter(|attribute| shared.iter().any(|name| attribute.path().is_ident(name))).collect()
    }

    /// The author's function, under another name.
    pub fn body_as(&self, ident: &Ident, visibility: &Visibility) -> TokenStream {
        let Self { attributes, signature, body, .. } = self;
        let signature = Signature { ident: ident.clone(), ..signature.clone() };
        quote!(#(#attributes)* #visibility #signature #body)
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attributes, visibility, signature, body } = self;
        tokens.extend(quote!(#(#attributes)* #visibility #signature #body));
    }
}

/// What a type that is spelled `..Vec<T>` is a list of.
pub fn listed(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Vec")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(item)) if arguments.args.len() == 1 => Some(item),
        _ => None,
    }
}

/// Whether the last name of the type is `Result`, or ends with it and has parameters.
pub fn is_spelled_result(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    path.path.segments.last().is_some_and(|last| {
        let name = last.ident.to_string();
        name == "Result" || (name.ends_with("Result") && !last.arguments.is_none())
    })
}

fn check_type(ty: &Type, errors: &mut Vec<Error>) {
    let mut finder = Borrows { errors, what: "an argument" };
    finder.visit_type(ty);
}

fn check_return(ty: &Type, errors: &mut Vec<Error>) {
    let foreign = |path: &syn::Path| {
        let first = path.segments.first().map(|segment| segment.ident.to_string());
        path.segments.len() > 1 && matches!(first.as_deref(), Some("anyhow" | "eyre"))
    };
    if let Type::Path(path) = ty
        && foreign(&path.path)
    {
        errors.push(error(
            ty,
            "such an error cannot be recorded: return `Result<_, everpulse::Error>`, which `?` makes from any error",
        ));
        return;
    }
    Borrows { errors, what: "a result" }.visit_type(ty);
}

/// Finds what cannot travel to another process.
struct Borrows<'a> {
    errors: &'a mut Vec<Error>,
    what: &'a str,
}

impl Visit<'_> for Borrows<'_> {
    fn visit_type(&mut self, ty: &Type) {
        let hint = match ty {
            Type::Reference(reference) => {
                let owned = match &*reference.elem {
                    Type::Path(path) if path.path.is_ident("str") => "use `String`".to_owned(),
                    Type::Slice(slice) => format!("use `Vec<{}>`", tokens(&slice.elem)),
                    other => format!("use `{}`", tokens(other)),
                };
                format!("{} travels to another process, so it cannot be borrowed: {owned}", self.what)
            }
            Type::ImplTrait(_) => {
                format!("{} is decoded by its type, so `impl Trait` is not enough: name the type", self.what)
            }
            Type::TraitObject(_) => {
                format!(
                    "{} is decoded by its type, so a `dyn Trait` is not enough: name a type, such as an enum",
                    self.what
                )
            }
            Type::Ptr(_) | Type::BareFn(_) => {
                format!("{} travels to another process, where this points to nothing: send a value", self.what)
            }
            Type::Infer(_) => format!("{} needs a type that is spelled out", self.what),
            other => return syn::visit::visit_type(self, other),
        };
        self.errors.push(Error::new(ty.span(), hint));
    }

    fn visit_lifetime(&mut self, lifetime: &syn::Lifetime) {
        if lifetime.ident != "static" {
            let message =
                format!("{} travels to another process, so it cannot be borrowed: use owned types", self.what);
            self.errors.push(Error::new(lifetime.span(), message));
        }
    }
}

fn tokens(item: &impl ToTokens) -> String {
    item.to_token_stream().to_string()
}
