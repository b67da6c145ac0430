//! AES-256-GCM, with a key of its own for each value.
//!
//! ```text
//! sealed = version (1 byte) | salt (24 random bytes) | ciphertext | tag (16 bytes)
//! key    = HKDF-SHA256(salt, the named key, "everpulse value key 1")
//! nonce  = 0, as its key seals one value
//! bound  = "everpulse sealed value 1", the key's name, the encoding beneath, the workflow id; each with its length
//! ```
//! A nonce of 96 bits that is drawn at random may be drawn twice after some 2^32 values, which a busy application writes in
//! a week; a salt of 192 bits is not. What is bound is not in the bytes, and they open only where it is the same: so a value
//! cannot be passed off as that of another workflow, nor as something that was sealed otherwise.

use bytes::Bytes;
use everpulse_protocol::coding::{Layer, LayerError, Place, Wrapped};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::keys::{Key, Keys};

const VERSION: u8 = 1;
const SALT: usize = 24;
const TAG: usize = 16;
const KEY_INFO: &[u8] = b"everpulse value key 1";
const BOUND: &[u8] = b"everpulse sealed value 1";

impl Layer for Keys {
    fn name(&self) -> &'static str {
        "aes256gcm"
    }

    fn conceals(&self) -> bool {
        true
    }

    fn wrap(&self, data: Bytes, place: Place<'_>) -> Result<Wrapped, LayerError> {
        let mut salt = [0; SALT];
        let drawn = SystemRandom::new().fill(&mut salt);
        drawn.map_err(|Unspecified| LayerError::failed("the operating system has no randomness to give"))?;
        let (name, key) = self.newest();
        let data = seal(name, key, salt, &data, place)
            .map_err(|Unspecified| LayerError::failed("it is too large to be sealed"))?;
        Ok(Wrapped::Changed { label: Some(name.to_owned()), data: data.into() })
    }

    fn unwrap(&self, data: Bytes, label: Option<&str>, place: Place<'_>) -> Result<Bytes, LayerError> {
        let Some(name) = label else { return Err(LayerError::failed("it does not say which key sealed it")) };
        let Some(key) = self.get(name) else { return Err(LayerError::NoKey { key: name.to_owned() }) };
        let sealed = match data.split_first() {
            Some((&VERSION, sealed)) if sealed.len() >= SALT + TAG => sealed,
            Some((&VERSION, _)) | None => return Err(LayerError::failed("it is too short for what was sealed")),
            Some((version, _)) => {
                let reason = format!("it was sealed in a way of version {version}; this release knows {VERSION}");
                return Err(LayerError::failed(reason));
            }
        };
        let (salt, sealed) = sealed.split_at(SALT);
        let mut sealed = sealed.to_vec();
        let opened = value_key(key, salt)
            .and_then(|key| Ok(key.open_in_place(nonce(), bound(name, place), &mut sealed)?.len()))
            .map_err(|Unspecified| {
                LayerError::failed(format!(
                    "it was damaged, or sealed for another workflow than {}, or the key `{name}` here is another than the \
                     one that sealed it",
                    place.workflow_id
                ))
            })?;
        sealed.truncate(opened);
        Ok(sealed.into())
    }
}

fn seal(name: &str, key: &Key, salt: [u8; SALT], data: &[u8], place: Place<'_>) -> Result<Vec<u8>, Unspecified> {
    let mut sealed = data.to_vec();
    let tag = value_key(key, &salt)?.seal_in_place_separate_tag(nonce(), bound(name, place), &mut sealed)?;
    let mut whole = Vec::with_capacity(1 + SALT + sealed.len() + TAG);
    whole.push(VERSION);
    whole.extend(salt);
    whole.extend(sealed);
    whole.extend(tag.as_ref());
    Ok(whole)
}

fn value_key(key: &Key, salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let root = key.root(salt);
    Ok(LessSafeKey::new(UnboundKey::from(root.expand(&[KEY_INFO], &AES_256_GCM)?)))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn bound(name: &str, place: Place<'_>) -> Aad<Vec<u8>> {
    let mut bytes = BOUND.to_vec();
    for part in [name, place.beneath, place.workflow_id.as_str()] {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    Aad::from(bytes)
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::WorkflowId;
    use proptest::prelude::*;

    use super::*;

    fn id(id: &str) -> WorkflowId {
        WorkflowId::new(id).unwrap()
    }

    fn wrap(keys: &Keys, data: &[u8]) -> (String, Bytes) {
        let wrapped = keys.wrap(Bytes::copy_from_slice(data), Place::new(&id("order-42"), "msgpack+lz4")).unwrap();
        let Wrapped::Changed { label: Some(label), data } = wrapped else { panic!("it is always sealed") };
        (label, data)
    }

    fn open(keys: &Keys, label: &str, data: &Bytes) -> Result<Bytes, LayerError> {
        keys.unwrap(data.clone(), Some(label), Place::new(&id("order-42"), "msgpack+lz4"))
    }

    #[test]
    fn the_newest_key_seals_and_all_open() {
        let before = Keys::new("k1", [1; 32]);
        let (label, old) = wrap(&before, b"canary");
        assert_eq!(label, "k1");
        let now = Keys::new("k2", [2; 32]).also("k1", [1; 32]);
        let (label, new) = wrap(&now, b"canary");
        assert_eq!(label, "k2");
        assert_eq!(
            (open(&now, "k1", &old).unwrap(), open(&now, "k2", &new).unwrap()),
            ("canary".into(), "canary".into())
        );
        assert_eq!(open(&before, "k2", &new), Err(LayerError::NoKey { key: "k2".to_owned() }));
    }

    #[test]
    fn the_same_value_is_sealed_otherwise_each_time() {
        let keys = Keys::new("k1", [1; 32]);
        let (one, other) = (wrap(&keys, b"yes").1, wrap(&keys, b"yes").1);
        assert_ne!(one[1..=SALT], other[1..=SALT]);
        assert_ne!(one[1 + SALT..], other[1 + SALT..]);
    }

    #[test]
    fn every_damaged_byte_is_noticed_and_so_is_every_missing_one() {
        let keys = Keys::new("k1", [1; 32]);
        let (_, sealed) = wrap(&keys, b"four cents");
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut damaged = sealed.to_vec();
                damaged[at] ^= 1 << bit;
                assert!(open(&keys, "k1", &damaged.into()).is_err(), "byte {at}, bit {bit}");
            }
            assert!(open(&keys, "k1", &sealed.slice(..at)).is_err(), "{at} bytes of it");
        }
    }

    #[test]
    fn a_value_opens_only_where_it_belongs() {
        let keys = Keys::new("k1", [1; 32]).also("k9", [1; 32]);
        let (_, sealed) = wrap(&keys, b"approved");
        let error = keys.unwrap(sealed.clone(), Some("k1"), Place::new(&id("order-43"), "msgpack+lz4")).unwrap_err();
        assert!(error.to_string().contains("another workflow than order-43"), "{error}");
        assert!(keys.unwrap(sealed.clone(), Some("k1"), Place::new(&id("order-42"), "json+lz4")).is_err());
        assert!(keys.unwrap(sealed.clone(), Some("k9"), Place::new(&id("order-42"), "msgpack+lz4")).is_err());
        assert!(keys.unwrap(sealed, None, Place::new(&id("order-42"), "msgpack+lz4")).is_err());
    }

    #[test]
    fn another_key_of_the_same_name_is_noticed_and_does_not_show() {
        let (_, sealed) = wrap(&Keys::new("k1", [1; 32]), b"canary");
        let error = open(&Keys::new("k1", [2; 32]), "k1", &sealed).unwrap_err().to_string();
        assert!(error.contains("the key `k1` here is another") && !error.contains("canary"), "{error}");
    }

    /// What was sealed by a release is opened by all later ones: these files are never written again.
    #[test]
    fn what_earlier_releases_sealed_is_opened() {
        let keys = Keys::new("k1", *b"0123456789abcdef0123456789abcdef");
        let fixture = include_str!("../tests/fixtures/sealed.1.hex");
        let sealed: Vec<u8> = fixture
            .trim()
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let place = &id("order-42");
        let place = Place::new(place, "msgpack");
        let opened = keys.unwrap(sealed.clone().into(), Some("k1"), place).unwrap();
        assert_eq!(opened, &b"\x81\xa4card\xa44711"[..]);
        let salt: [u8; SALT] = std::array::from_fn(|n| n as u8);
        assert_eq!(seal("k1", keys.newest().1, salt, &opened, place).unwrap(), sealed, "and this one seals alike");
    }

    proptest! {
        #[test]
        fn what_was_sealed_comes_back_and_is_not_seen(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let keys = Keys::new("k1", [1; 32]);
            let (label, sealed) = wrap(&keys, &data);
            prop_assert_eq!(sealed.len(), 1 + SALT + data.len() + TAG);
            prop_assert!(data.len() < 8 || !sealed.windows(data.len()).any(|window| window == data));
            prop_assert_eq!(open(&keys, &label, &sealed).unwrap(), data);
        }

        #[test]
        fn any_bytes_are_no_panic(data in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(open(&Keys::new("k1", [1; 32]), "k1", &data.into()).is_err());
        }
    }
}
