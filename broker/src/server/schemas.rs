//! Schemas between the wire and the registry.

use bytes::Bytes;

use super::effects::{schema_version_bytes, server_error};
use super::requests::Session;
use crate::semantics::{self, Broker, Refusal, RefusalKind, SchemaKind};
use crate::wire::Response;
use crate::wire::messages::*;

/// The schema that came with a request.
///
/// # Errors
/// It is of a type that nobody knows.
pub fn given(schema: Option<Schema>) -> Result<Option<semantics::Schema>, Refusal> {
    let Some(schema) = schema else { return Ok(None) };
    let Some(kind) = SchemaKind::of(schema.r#type) else {
        let message = format!("There is no schema type {}", schema.r#type);
        return Err(Refusal::new(RefusalKind::InvalidSchema, message));
    };
    let properties = schema.properties.into_iter().map(|property| (property.key, property.value)).collect();
    Ok(Some(semantics::Schema { kind, data: schema.schema_data.to_vec(), properties }))
}

impl Session {
    pub(super) fn get_or_create_schema(&self, broker: &mut Broker, request: CommandGetOrCreateSchema) {
        let request_id = request.request_id;
        match given(request.schema) {
            Ok(schema) => broker.handle_get_or_create_schema(self.id, request_id, &request.topic, schema),
            Err(refusal) => {
                self.outbound.respond(&Response::GetOrCreateSchema(CommandGetOrCreateSchemaResponse {
                    request_id,
                    error_code: Some(server_error(refusal.kind) as i32),
                    error_message: Some(refusal.message),
                    ..Default::default()
                }));
            }
        }
    }

    pub(super) fn get_schema(&self, broker: &Broker, request: &CommandGetSchema) {
        let response = find(broker, request).unwrap_or_else(|refusal| CommandGetSchemaResponse {
            request_id: request.request_id,
            error_code: Some(server_error(refusal.kind) as i32),
            error_message: Some(refusal.message),
            ..Default::default()
        });
        self.outbound.respond(&Response::GetSchema(response));
    }
}

fn find(broker: &Broker, request: &CommandGetSchema) -> Result<CommandGetSchemaResponse, Refusal> {
    let topic = broker.resolve(&request.topic)?;
    let version = match request.schema_version.as_deref() {
        None | Some([]) => None,
        Some(bytes) => {
            let refusal = |_| Refusal::new(RefusalKind::NotAllowed, "A schema version has eight bytes");
            Some(u64::from_be_bytes(bytes.try_into().map_err(refusal)?))
        }
    };
    let missing = || Refusal::new(RefusalKind::TopicNotFound, format!("Topic not found or no-schema {topic}"));
    let found = broker.schema(&topic, version).ok_or_else(missing)?;
    let schema = found.schema.as_ref().ok_or_else(missing)?;
    let (_, name) = topic.base().split_once("://").unwrap_or(("", topic.base()));
    let properties = schema.properties.iter().map(|(key, value)| KeyValue { key: key.clone(), value: value.clone() });
    Ok(CommandGetSchemaResponse {
        request_id: request.request_id,
        schema: Some(Schema {
            name: name.to_owned(),
            schema_data: Bytes::copy_from_slice(&schema.data),
            r#type: schema.kind as i32,
            properties: properties.collect(),
        }),
        schema_version: Some(schema_version_bytes(found.version)),
        ..Default::default()
    })
}
