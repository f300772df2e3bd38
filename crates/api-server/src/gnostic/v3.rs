//! The messages of version 3.

use serde_json::Value;

use super::{As, Form};

pub(crate) static DOCUMENT: Form = Form {
    fields: &[
        ("openapi", 1, As::Text),
        ("info", 2, As::Message(&INFO)),
        ("paths", 4, As::Named(1, &PATH_ITEM)),
        ("components", 5, As::Message(&COMPONENTS)),
    ],
    extensions: 9,
};

static INFO: Form = Form {
    fields: &[("title", 1, As::Text), ("description", 2, As::Text), ("version", 6, As::Text)],
    extensions: 7,
};

static COMPONENTS: Form = Form {
    fields: &[
        ("schemas", 1, As::Named(1, &SCHEMA_OR_REFERENCE)),
        ("securitySchemes", 7, As::Named(1, &SECURITY_OR_REFERENCE)),
    ],
    extensions: 10,
};

static SECURITY_OR_REFERENCE: Form =
    Form { fields: &[("", 1, As::Message(&SECURITY))], extensions: 0 };

static SECURITY: Form = Form {
    fields: &[
        ("type", 1, As::Text),
        ("description", 2, As::Text),
        ("name", 3, As::Text),
        ("in", 4, As::Text),
    ],
    extensions: 9,
};

static PATH_ITEM: Form = Form {
    fields: &[
        ("summary", 2, As::Text),
        ("description", 3, As::Text),
        ("get", 4, As::Message(&OPERATION)),
        ("put", 5, As::Message(&OPERATION)),
        ("post", 6, As::Message(&OPERATION)),
        ("delete", 7, As::Message(&OPERATION)),
        ("options", 8, As::Message(&OPERATION)),
        ("head", 9, As::Message(&OPERATION)),
        ("patch", 10, As::Message(&OPERATION)),
        ("parameters", 13, As::MessageEach(&PARAMETER_OR_REFERENCE)),
    ],
    extensions: 14,
};

static OPERATION: Form = Form {
    fields: &[
        ("tags", 1, As::TextEach),
        ("summary", 2, As::Text),
        ("description", 3, As::Text),
        ("operationId", 5, As::Text),
        ("parameters", 6, As::MessageEach(&PARAMETER_OR_REFERENCE)),
        ("requestBody", 7, As::Message(&BODY_OR_REFERENCE)),
        ("responses", 8, As::Named(2, &RESPONSE_OR_REFERENCE)),
        ("deprecated", 10, As::Flag),
    ],
    extensions: 13,
};

static PARAMETER_OR_REFERENCE: Form =
    Form { fields: &[("", 1, As::Message(&PARAMETER))], extensions: 0 };

static PARAMETER: Form = Form {
    fields: &[
        ("name", 1, As::Text),
        ("in", 2, As::Text),
        ("description", 3, As::Text),
        ("required", 4, As::Flag),
        ("schema", 10, As::Message(&SCHEMA_OR_REFERENCE)),
    ],
    extensions: 14,
};

static BODY_OR_REFERENCE: Form = Form { fields: &[("", 1, As::Message(&BODY))], extensions: 0 };

static BODY: Form = Form {
    fields: &[
        ("description", 1, As::Text),
        ("content", 2, As::Named(1, &MEDIA_TYPE)),
        ("required", 3, As::Flag),
    ],
    extensions: 4,
};

static RESPONSE_OR_REFERENCE: Form =
    Form { fields: &[("", 1, As::Message(&RESPONSE))], extensions: 0 };

static RESPONSE: Form = Form {
    fields: &[("description", 1, As::Text), ("content", 3, As::Named(1, &MEDIA_TYPE))],
    extensions: 5,
};

static MEDIA_TYPE: Form =
    Form { fields: &[("schema", 1, As::Message(&SCHEMA_OR_REFERENCE))], extensions: 5 };

static SCHEMA_OR_REFERENCE: Form =
    Form { fields: &[("", 0, As::OneOf(schema_or_reference))], extensions: 0 };

fn schema_or_reference(value: &Value) -> Option<(u32, As)> {
    Some(match value.get("$ref") {
        None => (1, As::Message(&SCHEMA)),
        Some(_) => (2, As::Message(&REFERENCE)),
    })
}

static REFERENCE: Form = Form {
    fields: &[("$ref", 1, As::Text), ("summary", 2, As::Text), ("description", 3, As::Text)],
    extensions: 0,
};

static SCHEMA: Form = Form {
    fields: &[
        ("nullable", 1, As::Flag),
        ("readOnly", 3, As::Flag),
        ("writeOnly", 4, As::Flag),
        ("example", 7, As::Any),
        ("deprecated", 8, As::Flag),
        ("title", 9, As::Text),
        ("multipleOf", 10, As::Double),
        ("maximum", 11, As::Double),
        ("exclusiveMaximum", 12, As::Flag),
        ("minimum", 13, As::Double),
        ("exclusiveMinimum", 14, As::Flag),
        ("maxLength", 15, As::Int),
        ("minLength", 16, As::Int),
        ("pattern", 17, As::Text),
        ("maxItems", 18, As::Int),
        ("minItems", 19, As::Int),
        ("uniqueItems", 20, As::Flag),
        ("maxProperties", 21, As::Int),
        ("minProperties", 22, As::Int),
        ("required", 23, As::TextEach),
        ("enum", 24, As::AnyEach),
        ("type", 25, As::Text),
        ("allOf", 26, As::MessageEach(&SCHEMA_OR_REFERENCE)),
        ("oneOf", 27, As::MessageEach(&SCHEMA_OR_REFERENCE)),
        ("anyOf", 28, As::MessageEach(&SCHEMA_OR_REFERENCE)),
        ("not", 29, As::Message(&SCHEMA)),
        ("items", 30, As::Wrapped(&As::MessageEach(&SCHEMA_OR_REFERENCE))),
        ("properties", 31, As::Named(1, &SCHEMA_OR_REFERENCE)),
        ("additionalProperties", 32, As::Choice(schema_or_flag)),
        ("default", 33, As::Message(&DEFAULT)),
        ("description", 34, As::Text),
        ("format", 35, As::Text),
    ],
    extensions: 36,
};

fn schema_or_flag(value: &Value) -> (u32, As) {
    if value.is_boolean() { (2, As::Flag) } else { (1, As::Message(&SCHEMA_OR_REFERENCE)) }
}

/// Has no form for lists and objects.
static DEFAULT: Form = Form { fields: &[("", 0, As::OneOf(default))], extensions: 0 };

fn default(value: &Value) -> Option<(u32, As)> {
    match value {
        Value::Number(_) => Some((1, As::Double)),
        Value::Bool(_) => Some((2, As::Flag)),
        Value::String(_) => Some((3, As::Text)),
        _ => None,
    }
}
