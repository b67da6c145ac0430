//! What a path names: tenants, namespaces, topics and subscriptions, decoded as clients encode them.
//!
//! Pulsar's clients encode a name like a field of a form, so `+` is a space and `%2F` a slash within a name.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::reply::Failure;
use crate::semantics::{Broker, Refusal, TopicName};

/// `tenant/namespace`.
#[derive(Debug, Clone)]
pub struct Namespace(pub String);

/// The topic of a path like `../persistent/tenant/namespace/topic/..`, or of `../schemas/..`.
#[derive(Debug, Clone)]
pub struct Topic(pub TopicName);

/// A topic with the name that follows `subscription`.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub topic: TopicName,
    pub name: String,
}

/// Which of the two domains a path is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistent(pub bool);

/// The decoded segments after the one that says of what the path is.
struct Named {
    kind: String,
    rest: std::vec::IntoIter<String>,
}

impl Named {
    /// # Errors
    /// The path is not of anything with a namespace, or is not decodable.
    fn of(parts: &Parts) -> Result<Named, Failure> {
        let mut segments = parts.uri.path().split('/').map(decoded).collect::<Result<Vec<_>, _>>()?.into_iter();
        let kind = segments.find(|segment| {
            matches!(segment.as_str(), "persistent" | "non-persistent" | "namespaces" | "schemas" | "tenants")
        });
        kind.map(|kind| Named { kind, rest: segments }).ok_or_else(Failure::nothing_here)
    }

    fn next(&mut self) -> Result<String, Failure> {
        self.rest.next().ok_or_else(Failure::nothing_here)
    }

    fn namespace(&mut self) -> Result<String, Failure> {
        Ok(format!("{}/{}", self.next()?, self.next()?))
    }

    fn topic(&mut self) -> Result<TopicName, Failure> {
        let scheme = if self.kind == "non-persistent" { "non-persistent" } else { "persistent" };
        let name = format!("{scheme}://{}/{}", self.namespace()?, self.next()?);
        TopicName::parse(&name).map_err(|error| Failure::precondition(error.to_string()))
    }
}

/// A segment as it was before its client encoded it.
///
/// # Errors
/// It is no encoding of text.
pub fn decoded(segment: &str) -> Result<String, Failure> {
    let segment = segment.replace('+', " ");
    let text = percent_decode_str(&segment).decode_utf8();
    text.map(String::from).map_err(|_| Failure::invalid("The path is not percent-encoded UTF-8"))
}

impl<S: Sync> FromRequestParts<S> for Namespace {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Namespace, Failure> {
        Named::of(parts)?.namespace().map(Namespace)
    }
}

impl<S: Sync> FromRequestParts<S> for Topic {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Topic, Failure> {
        Named::of(parts)?.topic().map(Topic)
    }
}

impl<S: Sync> FromRequestParts<S> for Subscription {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Subscription, Failure> {
        let mut named = Named::of(parts)?;
        let topic = named.topic()?;
        named.next()?;
        Ok(Subscription { topic, name: named.next()? })
    }
}

impl<S: Sync> FromRequestParts<S> for Persistent {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Persistent, Failure> {
        match Named::of(parts)?.kind.as_str() {
            "persistent" => Ok(Persistent(true)),
            "non-persistent" => Ok(Persistent(false)),
            _ => Err(Failure::nothing_here()),
        }
    }
}

/// The topic itself, or its partitions.
///
/// # Errors
/// Its namespace does not exist.
pub fn each(broker: &Broker, topic: &TopicName) -> Result<Vec<TopicName>, Refusal> {
    let count = broker.partitions(topic)?;
    Ok(if count == 0 { vec![topic.clone()] } else { broker.partition_names(topic, count) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_like_fields_of_a_form() {
        assert_eq!(decoded("a%2Fb+c%2Bd").expect("valid"), "a/b c+d");
        assert!(decoded("%FF").is_err());
    }
}
