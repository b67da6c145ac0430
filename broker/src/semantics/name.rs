//! Topic names: `persistent://tenant/namespace/topic[-partition-N]` and their short forms.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName {
    full: String,
    /// Where the namespace starts and ends in `full`, and where the local name starts.
    namespace: (usize, usize),
    persistent: bool,
}

/// A name that is none, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a topic name: {reason}")]
pub struct InvalidTopicName {
    pub name: String,
    pub reason: &'static str,
}

impl TopicName {
    /// # Errors
    /// Wrong scheme, wrong number of parts, or characters that cannot be in a name.
    pub fn parse(name: &str) -> Result<TopicName, InvalidTopicName> {
        let refuse = |reason| InvalidTopicName { name: name.escape_debug().to_string(), reason };
        let (persistent, rest) = match name.split_once("://") {
            Some(("persistent", rest)) => (true, rest),
            Some(("non-persistent", rest)) => (false, rest),
            Some(_) => return Err(refuse("expected persistent:// or non-persistent://")),
            None => (true, name),
        };
        let parts: Vec<&str> = rest.splitn(3, '/').collect();
        let (tenant, namespace, local) = match parts[..] {
            [local] if !name.contains("://") => ("public", "default", local),
            [tenant, namespace, local] => (tenant, namespace, local),
            _ => return Err(refuse("expected tenant/namespace/topic")),
        };
        if name.chars().any(char::is_control) || name.len() > 1024 {
            return Err(refuse("control characters or more than 1024 bytes"));
        }
        if !is_part(tenant) || !is_part(namespace) {
            return Err(refuse("tenant and namespace are letters, digits and any of -=:._"));
        }
        if local.is_empty() {
            return Err(refuse("the topic part is empty"));
        }
        let scheme = if persistent { "persistent://" } else { "non-persistent://" };
        let full = format!("{scheme}{tenant}/{namespace}/{local}");
        let end = scheme.len() + tenant.len() + 1 + namespace.len();
        Ok(TopicName { full, namespace: (scheme.len(), end), persistent })
    }

    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// `tenant/namespace`.
    pub fn namespace(&self) -> &str {
        &self.full[self.namespace.0..self.namespace.1]
    }

    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// The index of a partition, if the name is one's.
    pub fn partition(&self) -> Option<u32> {
        self.full.rsplit_once("-partition-").and_then(|(_, index)| {
            let canonical = index == "0" || !index.starts_with(['0', '+']);
            index.parse().ok().filter(|_| canonical)
        })
    }

    /// The partitioned topic that this is a partition of, or the topic itself.
    pub fn base(&self) -> &str {
        match (self.partition(), self.full.rsplit_once("-partition-")) {
            (Some(_), Some((base, _))) => base,
            _ => &self.full,
        }
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

/// Whether this can be the name of a tenant or a namespace.
pub fn is_part(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-=:._".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_in_public_default() {
        let name = TopicName::parse("orders").expect("valid");
        assert_eq!(name.as_str(), "persistent://public/default/orders");
        assert_eq!(name.namespace(), "public/default");
        assert_eq!(TopicName::parse("a/b/c").expect("valid").as_str(), "persistent://a/b/c");
    }

    #[test]
    fn partitions_know_their_topic() {
        let name = TopicName::parse("non-persistent://t/n/x-partition-12").expect("valid");
        assert_eq!((name.partition(), name.base()), (Some(12), "non-persistent://t/n/x"));
        assert!(!name.is_persistent());
        let plain = TopicName::parse("x-partition-one").expect("valid");
        assert_eq!((plain.partition(), plain.base()), (None, "persistent://public/default/x-partition-one"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["", "a/b", "http://a/b/c", "persistent://x", "a/b/", "a b/c/d", "a/b/c\n"] {
            assert!(TopicName::parse(name).is_err(), "{name:?}");
        }
    }
}
