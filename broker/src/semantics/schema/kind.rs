//! The types of schemas, by their numbers on the wire and the names that the admin has for them.

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($kind:ident = $number:literal,)*) => {
        /// What kind of schema it is; the names are Apache Pulsar's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum SchemaKind {
            $($kind = $number,)*
        }

        impl SchemaKind {
            /// By its number on the wire.
            pub fn of(number: i32) -> Option<SchemaKind> {
                match number {
                    $($number => Some(SchemaKind::$kind),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    None = 0,
    String = 1,
    Json = 2,
    Protobuf = 3,
    Avro = 4,
    Boolean = 5,
    Int8 = 6,
    Int16 = 7,
    Int32 = 8,
    Int64 = 9,
    Float = 10,
    Double = 11,
    Date = 12,
    Time = 13,
    Timestamp = 14,
    KeyValue = 15,
    Instant = 16,
    LocalDate = 17,
    LocalTime = 18,
    LocalDateTime = 19,
    ProtobufNative = 20,
    AutoConsume = 21,
}

impl SchemaKind {
    /// By the name that the admin and properties of key-value schemas use.
    pub fn named(name: &str) -> Option<SchemaKind> {
        serde_json::from_value(serde_json::Value::from(name)).ok()
    }

    /// As it is called in words.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            _ => format!("{self:?}"),
        }
    }

    /// Whether its definition is an Avro schema.
    pub fn is_avro(self) -> bool {
        matches!(self, SchemaKind::Avro | SchemaKind::Json | SchemaKind::Protobuf)
    }

    /// Whether its type says it all.
    pub fn is_primitive(self) -> bool {
        use SchemaKind::*;
        !matches!(self, None | Json | Protobuf | Avro | KeyValue | ProtobufNative | AutoConsume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_pulsars_names_and_numbers() {
        for (number, name) in [(1, "STRING"), (6, "INT8"), (15, "KEY_VALUE"), (19, "LOCAL_DATE_TIME")] {
            let kind = SchemaKind::of(number).expect("known");
            assert_eq!((kind.name().as_str(), kind as i32), (name, number));
            assert_eq!(SchemaKind::named(name), Some(kind));
        }
        assert_eq!(SchemaKind::of(22), None);
    }
}
