//! What of a workflow's body cannot be replayed: clocks, chance, threads, I/O.
//!
//! The body's tokens are read as they stand, also inside the arguments of macros, and never parsed: a body
//! that does not parse is the compiler's to explain. Paths are what is looked for, as they are written and
//! as `use` items of the same body make them; no name is refused for its last segment alone, unless nobody
//! gives it to anything else. What a body calls cannot be seen here: helpers are for clippy
//! (`everpulse/determinism/clippy.toml`), and what both miss is found at run time.
//!
//! Left alone are all arguments of `step` but the first, and functions that are defined in the body: they
//! may do anything where they are run.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::{Error, Ident, LitStr};

use self::rules::{ELAPSED, Rule, STATIC_MUT, broken_by};

pub use self::rules::GUARDS;

mod rules;

/// `allow(clock, reason = "..")` in the attribute.
pub struct Allow {
    pub guards: Vec<Ident>,
    pub reason: Option<LitStr>,
    pub span: Span,
}

/// Says what cannot be replayed, at the author's tokens, and which `allow` is for nothing.
pub fn check(body: &TokenStream, allow: Option<&Allow>) -> Vec<Error> {
    let mut scan = Scan::default();
    scan.tokens(body.clone());
    let allowed: Vec<&Ident> = allow.iter().flat_map(|allow| &allow.guards).collect();
    let mut errors: Vec<Error> = scan
        .found
        .iter()
        .filter(|finding| allowed.iter().all(|guard| *guard != finding.guard))
        .map(Finding::error)
        .collect();
    for guard in allowed {
        if scan.found.iter().all(|finding| guard != finding.guard) {
            let message = format!("nothing in this workflow needs `allow({guard})`: take it away");
            errors.push(Error::new(guard.span(), message));
        }
    }
    errors
}

struct Finding {
    guard: &'static str,
    why: &'static str,
    /// As the author wrote it.
    written: String,
    tokens: TokenStream,
}

impl Finding {
    fn error(&self) -> Error {
        let Self { guard, why, written, tokens } = self;
        Error::new_spanned(tokens, format!("`{written}` {why} [guard `{guard}`]"))
    }
}

#[derive(Default)]
struct Scan {
    found: Vec<Finding>,
    /// Names that `use` items of the body stand for.
    imports: BTreeMap<String, Vec<String>>,
    /// Variables that hold what `now()` gave.
    times: BTreeSet<String>,
}

impl Scan {
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        self.slice(&tokens);
    }

    fn slice(&mut self, tokens: &[TokenTree]) {
        let mut at = 0;
        while at < tokens.len() {
            at = match &tokens[at] {
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    at + 1
                }
                TokenTree::Ident(ident) if is_member(tokens, at) => {
                    if ident == "elapsed" {
                        self.elapsed(tokens, at);
                    }
                    at + 1
                }
                TokenTree::Ident(ident) if ident == "fn" && matches!(tokens.get(at + 1), Some(TokenTree::Ident(_))) => {
                    behind_body(tokens, at)
                }
                TokenTree::Ident(ident) if ident == "use" => {
                    let end = position(tokens, at, ';');
                    self.import(&tokens[at + 1..end], &[]);
                    end
                }
                TokenTree::Ident(ident) if ident == "let" => {
                    self.binding(&tokens[at + 1..position(tokens, at, ';')]);
                    at + 1
                }
                TokenTree::Ident(ident) if ident == "static" && is_ident(tokens.get(at + 1), "mut") => {
                    let (guard, why) = STATIC_MUT;
                    self.find(guard, why, "static mut", &tokens[at..at + 2]);
                    at + 2
                }
                TokenTree::Ident(_) => self.path(tokens, at),
                TokenTree::Punct(_) | TokenTree::Literal(_) => at + 1,
            };
        }
    }

    /// A path, and what follows from it; gives the place behind it.
    fn path(&mut self, tokens: &[TokenTree], start: usize) -> usize {
        let mut written = Vec::new();
        let mut at = start;
        while let Some(TokenTree::Ident(segment)) = tokens.get(at) {
            written.push(segment.to_string());
            at += 1;
            if is_colons(tokens, at) && is_punct(tokens.get(at + 2), '<') {
                let end = behind_generics(tokens, at + 2);
                self.slice(&tokens[at + 3..end.max(at + 4) - 1]);
                at = end;
            }
            if !is_colons(tokens, at) || !matches!(tokens.get(at + 2), Some(TokenTree::Ident(_))) {
                break;
            }
            at += 2;
        }
        let shown = written.join("::");
        let whole = match self.imports.get(&written[0]) {
            Some(imported) => imported.iter().chain(&written[1..]).cloned().collect(),
            None => written,
        };
        if let Some(Rule { guard, why, .. }) = broken_by(&whole) {
            self.find(guard, why, &shown, &tokens[start..at]);
        }
        match tokens.get(at) {
            Some(TokenTree::Group(arguments))
                if whole.last().is_some_and(|last| last == "step")
                    && arguments.delimiter() == Delimiter::Parenthesis =>
            {
                let arguments: Vec<TokenTree> = arguments.stream().into_iter().collect();
                self.slice(&arguments[..position(&arguments, 0, ',')]);
                at + 1
            }
            _ => at,
        }
    }

    /// `.elapsed()` of a time that the workflow had from `now()`.
    fn elapsed(&mut self, tokens: &[TokenTree], at: usize) {
        let is_time = match tokens.get(at.wrapping_sub(2)) {
            Some(TokenTree::Group(group)) => {
                group.stream().is_empty() && is_ident(tokens.get(at.wrapping_sub(3)), "now")
            }
            Some(TokenTree::Ident(ident)) => {
                ident == "started_at" || ident == "UNIX_EPOCH" || self.times.contains(&ident.to_string())
            }
            _ => false,
        };
        if is_time {
            let (guard, why) = ELAPSED;
            self.find(guard, why, "elapsed", &tokens[at..=at]);
        }
    }

    /// Remembers the name of `let name = .. now();`.
    fn binding(&mut self, statement: &[TokenTree]) {
        let name = statement.iter().find(|token| !is_ident(Some(token), "mut"));
        if let (Some(TokenTree::Ident(name)), [.., now, TokenTree::Group(nothing)]) = (name, statement)
            && is_ident(Some(now), "now")
            && nothing.stream().is_empty()
        {
            self.times.insert(name.to_string());
        }
    }

    /// Takes in what a `use` item names.
    fn import(&mut self, tree: &[TokenTree], prefix: &[String]) {
        let mut path = prefix.to_vec();
        for (at, token) in tree.iter().enumerate() {
            match token {
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    inner.split(|token| is_punct(Some(token), ',')).for_each(|tree| self.import(tree, &path));
                    return;
                }
                TokenTree::Ident(ident) if ident == "as" => {
                    if let Some(TokenTree::Ident(name)) = tree.get(at + 1) {
                        self.imports.insert(name.to_string(), path);
                    }
                    return;
                }
                TokenTree::Ident(ident) if ident == "self" && !path.is_empty() => {}
                TokenTree::Ident(ident) => path.push(ident.to_string()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
        if let Some(name) = path.last().cloned() {
            self.imports.insert(name, path);
        }
    }

    fn find(&mut self, guard: &'static str, why: &'static str, written: &str, tokens: &[TokenTree]) {
        let tokens = tokens.iter().cloned().collect();
        self.found.push(Finding { guard, why, written: written.to_owned(), tokens });
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_ident(token: Option<&TokenTree>, wanted: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == wanted)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// A field or a method, and no path: one dot stands before it.
fn is_member(tokens: &[TokenTree], at: usize) -> bool {
    let dot = |back: usize| at.checked_sub(back).is_some_and(|before| is_punct(tokens.get(before), '.'));
    dot(1) && !dot(2)
}

/// The place of the next such mark, or the end.
fn position(tokens: &[TokenTree], from: usize, mark: char) -> usize {
    (from..tokens.len()).find(|at| is_punct(tokens.get(*at), mark)).unwrap_or(tokens.len())
}

/// Behind the block of a function, or its semicolon.
fn behind_body(tokens: &[TokenTree], from: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(Some(token), ';'),
    };
    (from..tokens.len()).find(|at| ends(&tokens[*at])).map_or(tokens.len(), |at| at + 1)
}

/// Behind the `>` that belongs to the `<` at a place.
fn behind_generics(tokens: &[TokenTree], from: usize) -> usize {
    let mut depth = 0_i32;
    for at in from..tokens.len() {
        if is_punct(tokens.get(at), '<') {
            depth += 1;
        } else if is_punct(tokens.get(at), '>') && !is_punct(tokens.get(at - 1), '-') {
            depth -= 1;
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<String> {
        let mut scan = Scan::default();
        scan.tokens(body.parse().expect("tokens"));
        scan.found.iter().map(|finding| format!("{} {}", finding.guard, finding.written)).collect()
    }

    #[test]
    fn paths_are_found_in_every_form_that_names_them() {
        for (body, expected) in [
            ("{ let t = std::time::SystemTime::now(); }", "clock std::time::SystemTime::now"),
            ("{ ::std::time::Instant::now() }", "clock std::time::Instant::now"),
            ("{ time::Instant::now() }", "clock time::Instant::now"),
            ("{ Instant::now() }", "clock Instant::now"),
            ("{ format!(\"{}\", rand::random::<u8>()) }", "random rand::random"),
            ("{ join!(a(), async { tokio::time::sleep(d).await }) }", "clock tokio::time::sleep"),
            ("{ for i in 0..rand::random() {} }", "random rand::random"),
            ("{ items.iter().map(|_| Uuid::new_v4()) }", "random Uuid::new_v4"),
            ("{ let seen: Vec<HashSet<u32>> = x; }", "order HashSet"),
            ("{ Vec::<HashMap<u8, u8>>::new() }", "order HashMap"),
            ("{ tokio::select! { a = b => c } }", "order tokio::select"),
            ("{ let start = now(); sleep(d).await; start.elapsed() }", "clock elapsed"),
            ("{ everpulse::now().elapsed() }", "clock elapsed"),
            ("{ info().started_at.elapsed() }", "clock elapsed"),
            ("{ static mut COUNT: u32 = 0; }", "global static mut"),
            ("{ thread_local! { static A: u8 = 1; } }", "global thread_local"),
            ("{ step(std::env::var(\"NAME\"), || async { fs::read(p) }).await }", "io std::env::var"),
        ] {
            assert_eq!(found(body), [expected], "{body}");
        }
    }

    #[test]
    fn imports_of_the_body_count() {
        assert_eq!(found("{ use std::time::Instant as Clock; Clock::now() }"), ["clock Clock::now"]);
        assert_eq!(found("{ use tokio::{time::{self, sleep}}; sleep(d).await; time::interval(d) }").len(), 2);
        assert_eq!(found("{ use crate::chat::thread; thread::spawn(topic) }"), [""; 0]);
    }

    #[test]
    fn what_only_looks_alike_is_left_alone() {
        for body in [
            "{ now() - start; sleep(d).await; random::<u8>(); uuid() }",
            "{ spawn(order).await; my::Instant::now(); self::thread::spawn(); orders::fs::read() }",
            "{ clock.now(); rand.thread_rng(); watch.elapsed(); order.HashMap }",
            "{ let rand = 3; let fs = rand + 1; fs }",
            "{ tokio::time::Duration::from_secs(1); std::net::IpAddr::from(x); std::time::SystemTime::UNIX_EPOCH }",
            "{ \"SystemTime::now\"; r#\"HashMap\"# }",
            "{ step(\"read\", || async { std::fs::read(\"a\") }).retry(r).await }",
            "{ step::<_, _, u8, E>(\"roll\", move || async { Ok(rand::random()) }).await }",
            "{ fn helper() -> u8 { rand::random() } async fn more() { tokio::fs::read(p).await } }",
            "{ static TABLE: [u8; 2] = [1, 2]; println!(\"{}\", TABLE[0]); }",
        ] {
            assert_eq!(found(body), [""; 0], "{body}");
        }
    }

    #[test]
    fn every_rule_is_of_a_guard_that_can_be_allowed() {
        for rule in rules::RULES {
            assert!(GUARDS.contains(&rule.guard), "{}", rule.guard);
            assert!(rule.paths.iter().all(|path| path.contains('|')), "{:?}", rule.paths);
        }
    }
}
