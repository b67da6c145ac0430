//! `#[workflow]` and `#[activity]` on functions.
//!
//! ```text
//!   #[activity] pub async fn charge(card: String) -> Result<T, E> { .. }
//!
//!   pub fn charge(card: String) -> Call<charge> { encode }     the call
//!   pub struct charge {}                                       the definition, in the space of types
//!   impl charge { pub async fn body(card: String) -> .. }      the function itself
//!   impl Definition, ActivityDefinition, FunctionActivity for charge
//! ```

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, FnArg, Ident, LitStr, Result, Visibility};

use crate::attribute::{Activity, After, Batch, Named, combine, error, root};
use crate::function::{Function, Parameter, Returns, is_spelled_result, listed};
use crate::guard;
use crate::revision;

pub fn workflow(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand(item, |function| {
        let named = Named::parse(attribute, &["version", "name", "crate", "allow"]);
        let asyncness = match function.signature.asyncness {
            Some(_) => Ok(()),
            None => Err(error(
                &function.signature.fn_token,
                "a workflow must be `async`: it waits for activities, timers and signals",
            )),
        };
        let (named, ()) = both(named, no_receiver(function, "a workflow").and(asyncness))?;
        let version = named.version()?;
        let root = root(named.krate.as_ref());
        let definition = Definition::read(function, "a workflow", named.name.as_ref(), None, root)?;
        let code = definition.workflow(version);
        // Beside the definition, so that what uses it is not wrong as well.
        let errors = guard::check(&function.body, named.allow.as_ref()).into_iter().map(Error::into_compile_error);
        let expanded = definition.expand(function, code);
        Ok(quote!(#(#errors)* #expanded))
    })
}

pub fn activity(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand(item, |function| {
        let (activity, ()) = both(syn::parse2::<Activity>(attribute), no_receiver(function, "an activity"))?;
        let root = root(activity.krate.as_ref());
        let definition = Definition::read(function, "an activity", activity.name.as_ref(), None, root)?;
        let definition = definition.batched_if(activity.batch.is_some())?;
        let code = definition.activity(&activity, function)?;
        Ok(definition.expand(function, code))
    })
}

/// Parses the function; on an error keeps it beside the error, so that the rest of the file still makes sense.
fn expand(item: TokenStream, run: impl FnOnce(&Function) -> Result<TokenStream>) -> TokenStream {
    let function: Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = error.into_compile_error();
            return quote!(#error #item);
        }
    };
    run(&function).unwrap_or_else(|error| {
        let error = error.into_compile_error();
        quote!(#error #[allow(dead_code, unused)] #item)
    })
}

fn both<A, B>(a: Result<A>, b: Result<B>) -> Result<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (a, b) => Err(combine(a.err().into_iter().chain(b.err()).collect()).expect_err("one of them is an error")),
    }
}

fn no_receiver(function: &Function, what: &str) -> Result<()> {
    let receiver = function.signature.inputs.iter().find(|input| matches!(input, FnArg::Receiver(_)));
    match receiver {
        None => Ok(()),
        Some(receiver) if what == "an activity" => Err(error(
            receiver,
            "a method becomes an activity by `#[activities]` on its `impl` beside `#[activity]` on itself",
        )),
        Some(receiver) => Err(error(
            receiver,
            "a workflow has no `self`: what it knows comes by its arguments; what it does to the world it does in \
             activities, which can be methods",
        )),
    }
}

/// All that is known of one workflow or activity.
pub struct Definition {
    /// The type that stands for it.
    pub ty: Ident,
    pub visibility: Visibility,
    pub wire_name: String,
    pub parameters: Vec<Parameter>,
    pub returns: Returns,
    pub root: TokenStream,
    /// The author's name for it.
    ident: Ident,
    /// What says how a workflow calls it.
    kind: Ident,
}

impl Definition {
    /// `group` is the type whose method it is, and the group's name on the wire.
    pub fn read(
        function: &Function,
        what: &str,
        name: Option<&LitStr>,
        group: Option<(&Ident, &str)>,
        root: TokenStream,
    ) -> Result<Self> {
        let (parameters, returns) = both(function.parameters(what), function.returns())?;
        let ident = function.signature.ident.clone();
        let own = ident.unraw().to_string();
        let (ty, default) = match group {
            None => (ident.clone(), own),
            Some((ty, group)) => (format_ident!("{ty}_{own}", span = ident.span()), format!("{group}.{own}")),
        };
        let wire_name = name.map_or(default, LitStr::value);
        let kind = if what == "an activity" { "ActivityCall" } else { "ChildCall" };
        let (visibility, kind) = (function.visibility.clone(), Ident::new(kind, Span::call_site()));
        Ok(Self { ty, visibility, wire_name, parameters, returns, root, ident, kind })
    }

    /// Of an activity that does several tasks in one execution: its calls have one item each, and get one result.
    pub fn batched_if(mut self, is_batch: bool) -> Result<Self> {
        if !is_batch {
            return Ok(self);
        }
        let [parameter] = &mut self.parameters[..] else {
            let hint = "an activity with `batch(..)` has one parameter, the list of what its calls are given: `rows: Vec<Row>`";
            return Err(error(&self.ident, hint));
        };
        let Some(item) = listed(&parameter.ty) else {
            let hint = "an activity with `batch(..)` is given a list, spelled `Vec<T>`; each of its calls has one `T`";
            return Err(error(&parameter.ty, hint));
        };
        parameter.ty = item.clone();
        let Some(part) = listed(&self.returns.ty) else {
            let hint = "an activity with `batch(..)` gives one result for each item, in their order: return \
                        `Vec<Result<T, E>>`, or `Vec<T>` where nothing can fail";
            return Err(error(&self.returns.ty, hint));
        };
        self.returns = Returns { is_result: is_spelled_result(part), ty: part.clone() };
        Ok(self)
    }

    /// Everything, of a free function.
    fn expand(&self, function: &Function, code: TokenStream) -> TokenStream {
        let Self { ty, visibility, .. } = self;
        let cfgs = function.cfgs();
        let call = self.call(function);
        let common = self.common(function);
        let body = function.body_as(&Ident::new("body", ty.span()), visibility);
        quote! {
            #call
            #common
            #(#cfgs)*
            impl #ty { #body }
            #code
        }
    }

    /// The function that returns the call.
    pub fn call(&self, function: &Function) -> TokenStream {
        let Self { ty, visibility, parameters, root, ident, .. } = self;
        let attributes = function.call_attributes();
        let idents: Vec<_> = parameters.iter().map(|parameter| &parameter.ident).collect();
        let types: Vec<_> = parameters.iter().map(|parameter| &parameter.ty).collect();
        quote! {
            #(#attributes)*
            #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)]
            #visibility fn #ident(#(#idents: #types),*) -> #root::Call<#ty> {
                #root::Call::new(
                    (#ty::__everpulse_arguments().encode)((#(#idents,)*)),
                    |payload, format| #ty::__everpulse_arguments().recode(payload, format),
                )
            }
        }
    }

    /// The type, its names and types, how it is called, and the assertions on the author's types.
    pub fn common(&self, function: &Function) -> TokenStream {
        let Self { ty, visibility, wire_name, parameters, root, ident, kind, .. } = self;
        let cfgs = function.cfgs();
        let names = parameters.iter().map(Parameter::name);
        let (parameter_names, types) = (parameters.iter().map(Parameter::name), self.types());
        let (output, error) = self.output_and_error();
        let doc = format!("The definition behind the function `{}`.", ident.unraw());
        let (codec, assertions) = (self.codec(), self.assertions());
        quote! {
            #(#cfgs)*
            #[doc = #doc]
            #[allow(non_camel_case_types, dead_code, missing_debug_implementations, clippy::empty_structs_with_brackets)]
            #visibility struct #ty {}

            #(#cfgs)*
            #[allow(deprecated)]
            impl #root::Definition for #ty {
                const NAME: &'static str = #wire_name;
                const LOCATION: #root::SourceLocation =
                    #root::SourceLocation { file: ::core::file!(), line: ::core::line!() };
                const PARAMETERS: &'static [&'static str] = &[#(#names),*];
                type Output = #output;
                type Error = #error;

                fn schemas() -> #root::Schemas {
                    #[allow(unused_imports)]
                    use #root::NoSchema as _;
                    #root::Schemas::of(
                        &[#((#parameter_names, <#root::Shape<#types>>::schema as #root::Asked)),*],
                        <#root::Shape<#output>>::schema,
                        <#root::Shape<#error>>::schema,
                    )
                }
            }

            #(#cfgs)*
            #[allow(deprecated)]
            impl #root::Callable for #ty {
                type Kind = #root::#kind;
            }

            #(#cfgs)*
            #codec

            #(#cfgs)*
            const _: () = { #assertions };
        }
    }

    fn output_and_error(&self) -> (TokenStream, TokenStream) {
        let (Returns { ty, is_result }, root) = (&self.returns, &self.root);
        if *is_result {
            (
                quote_spanned!(ty.span()=> <#ty as #root::IsResult>::Value),
                quote_spanned!(ty.span()=> <#ty as #root::IsResult>::Error),
            )
        } else {
            (quote!(#ty), quote!(#root::Never))
        }
    }

    fn assertions(&self) -> TokenStream {
        let (Returns { ty, is_result }, root) = (&self.returns, &self.root);
        let at = ty.span();
        let (output, error) = self.output_and_error();
        if *is_result {
            quote_spanned! {at=>
                let _ = #root::assert_output::<#output>;
                let _ = #root::assert_error::<#error>;
            }
        } else {
            let message =
                "this type is a `Result` under another name: spell it `Result<..>`, so that its error is seen as one";
            quote_spanned! {at=>
                let _ = #root::assert_output::<#output>;
                {
                    #[allow(unused_imports)]
                    use #root::NoResult as _;
                    ::core::assert!(!<#root::Probe<#ty>>::IS_RESULT, #message);
                }
            }
        }
    }

    /// How the arguments are written and read. Both stand in one function, as the compiler then says once
    /// what is wrong with an argument's type, at that type.
    fn codec(&self) -> TokenStream {
        let (root, ty) = (&self.root, &self.ty);
        let count = u8::try_from(self.parameters.len()).expect("at most twelve");
        let (locals, types) = (self.locals(), self.types());
        let writes = self.parameters.iter().zip(&locals).map(|(parameter, local)| {
            let (ty, name) = (&parameter.ty, parameter.name());
            quote_spanned!(ty.span()=> encoder.entry::<#ty>(#name, &#local);)
        });
        let reads = self.parameters.iter().map(|parameter| {
            let (ty, name) = (&parameter.ty, parameter.name());
            quote_spanned!(ty.span()=> decoder.entry::<#ty>(#name)?)
        });
        quote! {
            #[allow(unused_mut, unused_variables, clippy::all, clippy::pedantic)]
            impl #ty {
                fn __everpulse_arguments() -> #root::Codec<(#(#types,)*)> {
                    #root::Codec {
                        encode: |(#(#locals,)*)| {
                            let mut encoder = #root::Encoder::new(#count);
                            #(#writes)*
                            encoder.finish()
                        },
                        decode: |payload| {
                            let mut decoder = #root::Decoder::new::<#ty>(payload)?;
                            ::core::result::Result::Ok((#(#reads,)*))
                        },
                    }
                }
            }
        }
    }

    fn types(&self) -> Vec<&syn::Type> {
        self.parameters.iter().map(|parameter| &parameter.ty).collect()
    }

    pub fn locals(&self) -> Vec<Ident> {
        (0..self.parameters.len()).map(local).collect()
    }

    /// From what the body returned to a `Result`.
    fn as_result(&self, returned: &TokenStream) -> TokenStream {
        let root = &self.root;
        if self.returns.is_result {
            quote!(#root::IsResult::into_result(#returned))
        } else {
            quote!(::core::result::Result::Ok::<_, #root::Never>(#returned))
        }
    }

    fn workflow(&self, version: u32) -> TokenStream {
        let Self { ty, root, .. } = self;
        let locals = self.locals();
        let result = self.as_result(&quote!(#ty::body(#(#locals),*).await));
        let failure = failure(root, ty);
        let build = revision::build();
        quote! {
            #[allow(deprecated)]
            impl #root::WorkflowDefinition for #ty {
                const VERSION: u32 = #version;

                fn entry() -> #root::WorkflowEntry {
                    #root::workflow_entry::<Self>(#build, |payload| {
                        let (#(#locals,)*) = (#ty::__everpulse_arguments().decode)(payload)?;
                        ::core::result::Result::Ok(#root::boxed_run(async move {
                            match #result {
                                ::core::result::Result::Ok(value) => #root::encode_result::<#ty>(&value),
                                ::core::result::Result::Err(error) => {
                                    let error = &error;
                                    ::core::result::Result::Err(#failure)
                                }
                            }
                        }))
                    })
                }
            }
        }
    }

    fn activity(&self, options: &Activity, function: &Function) -> Result<TokenStream> {
        let Self { ty, root, .. } = self;
        let locals = self.locals();
        let wait = function.signature.asyncness.map(|_| quote!(.await));
        let returned = quote!(#ty::body(#(#locals),*) #wait);
        let blocking = function.signature.asyncness.is_none();
        let entry = self.entry(options, blocking, &returned, &quote!());
        let definition = self.activity_definition(options)?;
        Ok(quote! {
            #definition

            #[allow(deprecated)]
            impl #root::FunctionActivity for #ty {
                fn entry() -> #root::ActivityEntry {
                    #entry
                }
            }
        })
    }

    pub fn activity_definition(&self, options: &Activity) -> Result<TokenStream> {
        let Self { ty, root, .. } = self;
        let failure = failure(root, ty);
        if !options.retry.after.is_empty() && !self.returns.is_result {
            let message = "`after` names errors that wait longer, but this activity returns none";
            return Err(Error::new(self.returns.ty.span(), message));
        }
        let arms = options.retry.after.iter().map(|After { pattern, wait }| {
            quote! {
                #[allow(unreachable_patterns)]
                #pattern => ::core::option::Option::Some(#wait),
            }
        });
        let failure = if options.retry.after.is_empty() {
            failure
        } else {
            quote!(#root::retry_after(#failure, match &error {
                #(#arms)*
                #[allow(unreachable_patterns)]
                _ => ::core::option::Option::None,
            }))
        };
        let retryable = match &options.retry.never {
            None => quote!(true),
            Some(_) if !self.returns.is_result => {
                return Err(Error::new(
                    self.returns.ty.span(),
                    "`never` names errors that are final, but this activity returns none",
                ));
            }
            Some(pattern) => quote!(match error {
                #[allow(unreachable_patterns)]
                #pattern => false,
                #[allow(unreachable_patterns)]
                _ => true,
            }),
        };
        let options = options.options(root)?;
        Ok(quote! {
            #[allow(clippy::needless_update)]
            impl #root::ActivityDefinition for #ty {
                const OPTIONS: #root::ActivityOptions = #options;

                #[allow(deprecated)]
                fn attempt_error(error: &Self::Error) -> #root::AttemptError {
                    let retryable = #retryable;
                    #root::AttemptError { failure: #failure, retryable }
                }
            }
        })
    }

    /// The entry. `returned`: what calls the body with the arguments by their local names; `before`: what is done first, once
    /// for each attempt.
    pub fn entry(
        &self,
        options: &Activity,
        blocking: bool,
        returned: &TokenStream,
        before: &TokenStream,
    ) -> TokenStream {
        let (ty, root) = (&self.ty, &self.root);
        let Some(Batch { max, wait_ms }) = &options.batch else {
            let attempt = self.attempt(returned);
            return quote! {
                #root::activity_entry::<#ty>(#blocking, move |payload| {
                    #before
                    ::std::boxed::Box::pin(async move { #attempt })
                })
            };
        };
        let items = local(0);
        let result = self.as_result(&quote!(part));
        quote! {
            #root::batch_entry::<#ty>(#blocking, #max, #wait_ms, move |payloads| {
                #before
                ::std::boxed::Box::pin(#root::batch_attempt::<#ty, _, _, _>(
                    payloads,
                    |payload| (#ty::__everpulse_arguments().decode)(payload).map(|(item,)| item),
                    move |#items| async move { #returned },
                    |part| #result,
                ))
            })
        }
    }

    /// What runs one attempt, in an async block with a `payload` in it.
    fn attempt(&self, returned: &TokenStream) -> TokenStream {
        let (ty, root) = (&self.ty, &self.root);
        let locals = self.locals();
        let result = self.as_result(returned);
        quote! {
            let (#(#locals,)*) = match (#ty::__everpulse_arguments().decode)(&payload) {
                ::core::result::Result::Ok(arguments) => arguments,
                ::core::result::Result::Err(failure) => {
                    return ::core::result::Result::Err(#root::undecodable(*failure));
                }
            };
            match #result {
                ::core::result::Result::Ok(value) => #root::encode_output::<#ty>(&value),
                ::core::result::Result::Err(error) => {
                    ::core::result::Result::Err(<#ty as #root::ActivityDefinition>::attempt_error(&error))
                }
            }
        }
    }
}

/// The recorded form of what `error` refers to, with what its type can tell.
fn failure(root: &TokenStream, ty: &Ident) -> TokenStream {
    quote! {{
        #[allow(unused_imports)]
        use #root::NoSources as _;
        #root::failure::<#ty>(error, #root::Sources(error).facts())
    }}
}

fn local(index: usize) -> Ident {
    format_ident!("__everpulse_{index}", span = Span::mixed_site())
}
