//! What stands in the parentheses of our attributes.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Ident, LitFloat, LitInt, LitStr, Path, Result, Token, Type, parenthesized};

use crate::guard::{Allow, GUARDS};

/// Options of `#[workflow]`, `#[activities]` and `#[signal]`.
#[derive(Default)]
pub struct Named {
    pub version: Option<LitInt>,
    pub name: Option<LitStr>,
    pub krate: Option<Path>,
    pub allow: Option<Allow>,
}

/// Options of `#[query]`.
#[derive(Default)]
pub struct Asked {
    pub name: Option<LitStr>,
    pub reply: Option<Type>,
    pub error: Option<Type>,
    pub krate: Option<Path>,
}

/// Options of `#[activity]`.
#[derive(Default)]
pub struct Activity {
    pub name: Option<LitStr>,
    pub krate: Option<Path>,
    pub timeout: Option<LitStr>,
    pub heartbeat: Option<LitStr>,
    pub schedule_to_start: Option<LitStr>,
    pub schedule_to_close: Option<LitStr>,
    pub queue: Option<LitStr>,
    pub priority: Option<u8>,
    pub exhausted: Option<LitStr>,
    pub retry: Retry,
    pub batch: Option<Batch>,
}

/// `batch(..)`: how many tasks are done in one execution, and how long the first one waits for others.
pub struct Batch {
    pub max: usize,
    pub wait_ms: u64,
}

/// `retry(..)`.
#[derive(Default)]
pub struct Retry {
    initial: Option<LitStr>,
    max: Option<LitStr>,
    factor: Option<Number>,
    max_attempts: Option<LitInt>,
    pub never: Option<TokenStream>,
    pub after: Vec<After>,
}

/// What fails so is tried again after a time of its own.
pub struct After {
    pub pattern: TokenStream,
    /// A `Duration`.
    pub wait: TokenStream,
}

struct Number(f64, Span);

/// The path under which the macros' output finds us.
pub fn root(krate: Option<&Path>) -> TokenStream {
    match krate {
        Some(path) => quote!(#path::__private),
        None => quote!(::everpulse::__private),
    }
}

/// The next key, and an error for one that came before or is not known.
fn key(input: ParseStream<'_>, known: &[&str], seen: &mut Vec<String>) -> Result<String> {
    let ident = input.call(<Ident as syn::ext::IdentExt>::parse_any)?;
    let key = ident.to_string();
    if !known.contains(&key.as_str()) {
        let known: Vec<_> = known.iter().map(|key| format!("`{key}`")).collect();
        return Err(Error::new(ident.span(), format!("unknown option `{key}`; known are {}", known.join(", "))));
    }
    if seen.contains(&key) {
        return Err(Error::new(ident.span(), format!("`{key}` is given twice")));
    }
    seen.push(key.clone());
    Ok(key)
}

/// Parses `key = value` and `key(..)`, separated by commas.
fn list(
    input: ParseStream<'_>,
    known: &[&str],
    mut value: impl FnMut(&str, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    let mut seen = Vec::new();
    while !input.is_empty() {
        let key = key(input, known, &mut seen)?;
        if !input.peek(syn::token::Paren) {
            input.parse::<Token![=]>()?;
        }
        value(&key, input)?;
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

impl Named {
    pub fn parse(attribute: TokenStream, known: &'static [&'static str]) -> Result<Self> {
        let parser = |input: ParseStream<'_>| {
            let mut named = Self::default();
            list(input, known, |key, input| {
                match key {
                    "version" => named.version = Some(input.parse()?),
                    "name" => named.name = Some(name(input)?),
                    "allow" => named.allow = Some(allow(input)?),
                    _ => named.krate = Some(input.call(Path::parse_mod_style)?),
                }
                Ok(())
            })?;
            Ok(named)
        };
        syn::parse::Parser::parse2(parser, attribute)
    }

    /// The version: 1 unless it is given.
    pub fn version(&self) -> Result<u32> {
        match &self.version {
            None => Ok(1),
            Some(version) => match version.base10_parse() {
                Ok(0) => Err(Error::new(version.span(), "versions are counted from 1")),
                other => other,
            },
        }
    }
}

impl Asked {
    pub fn parse(attribute: TokenStream, known: &'static [&'static str]) -> Result<Self> {
        let parser = |input: ParseStream<'_>| {
            let mut asked = Self::default();
            list(input, known, |key, input| {
                match key {
                    "name" => asked.name = Some(name(input)?),
                    "reply" => asked.reply = Some(input.parse()?),
                    "error" => asked.error = Some(input.parse()?),
                    _ => asked.krate = Some(input.call(Path::parse_mod_style)?),
                }
                Ok(())
            })?;
            Ok(asked)
        };
        syn::parse::Parser::parse2(parser, attribute)
    }
}

const ACTIVITY: &[&str] = &[
    "name",
    "timeout",
    "heartbeat",
    "schedule_to_start",
    "schedule_to_close",
    "queue",
    "priority",
    "retry",
    "exhausted",
    "batch",
    "crate",
];

impl Parse for Activity {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut activity = Self::default();
        list(input, ACTIVITY, |key, input| {
            match key {
                "name" => activity.name = Some(name(input)?),
                "timeout" => activity.timeout = Some(input.parse()?),
                "heartbeat" => activity.heartbeat = Some(input.parse()?),
                "schedule_to_start" => activity.schedule_to_start = Some(input.parse()?),
                "schedule_to_close" => activity.schedule_to_close = Some(input.parse()?),
                "queue" => activity.queue = Some(queue(input)?),
                "priority" => activity.priority = Some(priority(input)?),
                "exhausted" => activity.exhausted = Some(input.parse()?),
                "crate" => activity.krate = Some(input.call(Path::parse_mod_style)?),
                "batch" => {
                    let content;
                    parenthesized!(content in input);
                    activity.batch = Some(content.parse()?);
                }
                _ => {
                    let content;
                    parenthesized!(content in input);
                    activity.retry = content.parse()?;
                }
            }
            Ok(())
        })?;
        activity.begins_in_time()?;
        Ok(activity)
    }
}

impl Activity {
    /// A task that finds no others in its batch begins when it has waited for them.
    fn begins_in_time(&self) -> Result<()> {
        let Some(batch) = &self.batch else { return Ok(()) };
        for limit in [&self.schedule_to_start, &self.schedule_to_close].into_iter().flatten() {
            if duration_ms(limit)? <= batch.wait_ms {
                let hint = "a task that is alone in its batch waits for others first, and would never begin in time: this has to be \
                            longer than `wait`, which is 10 ms where nothing is said";
                return Err(Error::new(limit.span(), hint));
            }
        }
        Ok(())
    }
}

impl Parse for Batch {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut batch = Self { max: 100, wait_ms: 10 };
        list(input, &["max", "wait"], |key, input| {
            match key {
                "max" => {
                    let max: LitInt = input.parse()?;
                    batch.max = max.base10_parse()?;
                    if !(1..=10_000).contains(&batch.max) {
                        return Err(Error::new(max.span(), "one execution does 1 to 10000 tasks"));
                    }
                }
                _ => batch.wait_ms = duration_ms(&input.parse()?)?,
            }
            Ok(())
        })?;
        Ok(batch)
    }
}

impl Parse for Retry {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut retry = Self::default();
        list(input, &["initial", "max", "factor", "max_attempts", "never", "after"], |key, input| {
            match key {
                "initial" => retry.initial = Some(input.parse()?),
                "max" => retry.max = Some(input.parse()?),
                "factor" => retry.factor = Some(number(input)?),
                "max_attempts" => retry.max_attempts = Some(input.parse()?),
                "after" => {
                    let content;
                    parenthesized!(content in input);
                    let all = content.call(Punctuated::<After, Token![,]>::parse_terminated)?;
                    retry.after = all.into_iter().collect();
                }
                _ => {
                    let pattern = syn::Pat::parse_multi_with_leading_vert(input)?;
                    retry.never = Some(quote!(#pattern));
                }
            }
            Ok(())
        })?;
        Ok(retry)
    }
}

impl Parse for After {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let pattern = syn::Pat::parse_multi_with_leading_vert(input)?;
        input.parse::<Token![=]>()?;
        let wait = if input.peek(LitStr) {
            duration_tokens(&input.parse()?)?
        } else {
            let wait: syn::Expr = input.parse()?;
            quote!(#wait)
        };
        Ok(Self { pattern: quote!(#pattern), wait })
    }
}

impl Activity {
    /// The `ActivityOptions`, as an expression.
    pub fn options(&self, root: &TokenStream) -> Result<TokenStream> {
        let mut fields = Vec::new();
        if let Some(timeout) = &self.timeout {
            let duration = duration_tokens(timeout)?;
            fields.push(quote!(timeout: #duration));
        }
        if let Some(heartbeat) = &self.heartbeat {
            let duration = duration_tokens(heartbeat)?;
            fields.push(quote!(heartbeat: ::core::option::Option::Some(#duration)));
        }
        if let Some(limit) = &self.schedule_to_start {
            let duration = duration_tokens(limit)?;
            fields.push(quote!(schedule_to_start: ::core::option::Option::Some(#duration)));
        }
        if let Some(limit) = &self.schedule_to_close {
            let duration = duration_tokens(limit)?;
            fields.push(quote!(schedule_to_close: ::core::option::Option::Some(#duration)));
        }
        if let Some(queue) = &self.queue {
            fields.push(quote!(queue: #queue));
        }
        if let Some(priority) = self.priority {
            fields.push(quote!(priority: ::core::option::Option::Some(#priority)));
        }
        match self.exhausted.as_ref().map(|exhausted| (exhausted, exhausted.value())) {
            None => {}
            Some((_, value)) if value == "park" => fields.push(quote!(exhausted: #root::OnExhausted::Park)),
            Some((_, value)) if value == "fail" => fields.push(quote!(exhausted: #root::OnExhausted::Fail)),
            Some((literal, _)) => {
                return Err(Error::new(
                    literal.span(),
                    "when the attempts run out a step can \"fail\" or \"park\" (wait for an operator's redrive)",
                ));
            }
        }
        let retry = self.retry.policy(root)?;
        Ok(quote! {
            #root::ActivityOptions { #(#fields,)* retry: #retry, ..#root::ActivityOptions::DEFAULT }
        })
    }
}

impl Retry {
    fn policy(&self, root: &TokenStream) -> Result<TokenStream> {
        let mut fields = Vec::new();
        if let Some(initial) = &self.initial {
            let ms = duration_ms(initial)?;
            fields.push(quote!(initial_ms: #ms));
        }
        if let Some(max) = &self.max {
            let ms = duration_ms(max)?;
            if let Some(initial) = &self.initial
                && duration_ms(initial)? > ms
            {
                return Err(Error::new(max.span(), "the longest wait is shorter than the initial one"));
            }
            fields.push(quote!(max_ms: #ms));
        }
        if let Some(Number(factor, span)) = self.factor {
            if !(1.0..=1_000.0).contains(&factor) {
                return Err(Error::new(span, "a factor is from 1.0 (always the same wait) to 1000.0"));
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
            let percent = (factor * 100.0).round() as u32;
            fields.push(quote!(factor_percent: #percent));
        }
        if let Some(attempts) = &self.max_attempts {
            let count: u32 = attempts.base10_parse()?;
            if count == 0 {
                return Err(Error::new(attempts.span(), "the first attempt counts: `max_attempts` is at least 1"));
            }
            fields.push(quote!(max_attempts: ::core::option::Option::Some(#count)));
        }
        Ok(quote!(#root::RetryPolicy { #(#fields,)* ..#root::ActivityOptions::DEFAULT.retry }))
    }
}

/// `(GUARD, .., reason = "..")`.
fn allow(input: ParseStream<'_>) -> Result<Allow> {
    let content;
    let span = parenthesized!(content in input).span.join();
    let mut allow = Allow { guards: Vec::new(), reason: None, span };
    while !content.is_empty() {
        let ident: Ident = content.parse()?;
        if ident == "reason" {
            content.parse::<Token![=]>()?;
            allow.reason = Some(content.parse()?);
        } else if GUARDS.iter().any(|guard| ident == guard) {
            allow.guards.push(ident);
        } else {
            let known: Vec<_> = GUARDS.iter().map(|guard| format!("`{guard}`")).collect();
            return Err(Error::new(
                ident.span(),
                format!("no guard is called `{ident}`; there are {}", known.join(", ")),
            ));
        }
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    let has_reason = allow.reason.as_ref().is_some_and(|reason| !reason.value().trim().is_empty());
    if allow.guards.is_empty() || !has_reason {
        let message = "this takes the name of a guard and why a replay does the same all the same: `allow(order, reason = \
                       \"it is never iterated\")`";
        return Err(Error::new(allow.span, message));
    }
    Ok(allow)
}

/// A name on the wire.
fn name(input: ParseStream<'_>) -> Result<LitStr> {
    let name: LitStr = input.parse()?;
    let value = name.value();
    if value.is_empty() || value.len() > 255 || value.chars().any(char::is_control) {
        return Err(Error::new(name.span(), "a name has 1 to 255 bytes and no control characters"));
    }
    Ok(name)
}

fn queue(input: ParseStream<'_>) -> Result<LitStr> {
    let queue: LitStr = input.parse()?;
    let value = queue.value();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !(1..=64).contains(&value.len()) || !value.bytes().all(good) {
        return Err(Error::new(queue.span(), "a queue's name has 1 to 64 letters, digits, `-` and `_`"));
    }
    Ok(queue)
}

fn priority(input: ParseStream<'_>) -> Result<u8> {
    let literal: LitInt = input.parse()?;
    match literal.base10_parse() {
        Ok(level @ 1..=5) => Ok(level),
        _ => Err(Error::new(literal.span(), "a priority is 1 (taken first) to 5 (taken last)")),
    }
}

fn number(input: ParseStream<'_>) -> Result<Number> {
    if input.peek(LitInt) {
        let literal: LitInt = input.parse()?;
        return Ok(Number(literal.base10_parse()?, literal.span()));
    }
    let literal: LitFloat = input.parse()?;
    Ok(Number(literal.base10_parse()?, literal.span()))
}

fn duration_tokens(literal: &LitStr) -> Result<TokenStream> {
    let ms = duration_ms(literal)?;
    Ok(quote!(::core::time::Duration::from_millis(#ms)))
}

fn duration_ms(literal: &LitStr) -> Result<u64> {
    let hint = "a time is written as \"200ms\", \"30s\", \"5m\", \"2h\", \"7d\" or \"1h30m\", and is more than nothing";
    match parse_duration(&literal.value()) {
        Some(ms) if ms > 0 => Ok(ms),
        _ => Err(Error::new(literal.span(), hint)),
    }
}

/// Milliseconds of `1h30m` and the like.
fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        rest = rest[letters..].trim_start();
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    Some(total)
}

/// All errors as one, so that a person sees them at once.
pub fn combine(errors: Vec<Error>) -> Result<()> {
    errors
        .into_iter()
        .reduce(|mut all, error| {
            all.combine(error);
            all
        })
        .map_or(Ok(()), Err)
}

/// An error that points at all of a thing.
pub fn error(at: &impl Spanned, message: &str) -> Error {
    Error::new(at.span(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_units_that_add_up() {
        let times = ["200ms", "30s", "5m", "1h30m", "7d", "1 h 5 s"].map(parse_duration);
        assert_eq!(times, [200, 30_000, 300_000, 5_400_000, 604_800_000, 3_605_000].map(Some));
    }

    #[test]
    fn a_batch_does_not_wait_longer_than_its_tasks_may() {
        let error = |options: &str| syn::parse_str::<Activity>(options).err().map(|error| error.to_string());
        assert_eq!(error(r#"batch(wait = "1m"), schedule_to_start = "61s", schedule_to_close = "2m""#), None);
        for late in [r#"batch(wait = "1m"), schedule_to_start = "1m""#, r#"schedule_to_close = "10ms", batch(max = 2)"#]
        {
            assert!(error(late).is_some_and(|text| text.contains("would never begin in time")), "{late}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "30", "s", "1.5s", "1w", "-1s", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
