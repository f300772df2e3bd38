//! The messages of version 2.

use serde_json::Value;

use super::{As, Form};

pub(crate) static DOCUMENT: Form = Form {
    fields: &[
        ("swagger", 1, As::Text),
        ("info", 2, As::Message(&INFO)),
        ("host", 3, As::Text),
        ("basePath", 4, As::Text),
        ("schemes", 5, As::TextEach),
        ("consumes", 6, As::TextEach),
        ("produces", 7, As::TextEach),
        ("paths", 8, As::Named(2, &PATH_ITEM)),
        ("definitions", 9, As::Named(1, &SCHEMA)),
        ("security", 12, As::MessageEach(&REQUIREMENT)),
        ("securityDefinitions", 13, As::Named(1, &SECURITY)),
    ],
    extensions: 16,
};

/// Names of definitions, each with a list of texts.
static REQUIREMENT: Form = Form { fields: &[("", 1, As::Pairs(&TEXTS))], extensions: 0 };
static TEXTS: Form = Form { fields: &[("", 1, As::TextEach)], extensions: 0 };

/// Of the ways to say who one is there is but one here.
static SECURITY: Form = Form { fields: &[("", 2, As::Message(&API_KEY))], extensions: 0 };
static API_KEY: Form = Form {
    fields: &[
        ("type", 1, As::Text),
        ("name", 2, As::Text),
        ("in", 3, As::Text),
        ("description", 4, As::Text),
    ],
    extensions: 5,
};

static INFO: Form = Form {
    fields: &[("title", 1, As::Text), ("version", 2, As::Text), ("description", 3, As::Text)],
    extensions: 7,
};

pub(super) static PATH_ITEM: Form = Form {
    fields: &[
        ("get", 2, As::Message(&OPERATION)),
        ("put", 3, As::Message(&OPERATION)),
        ("post", 4, As::Message(&OPERATION)),
        ("delete", 5, As::Message(&OPERATION)),
        ("options", 6, As::Message(&OPERATION)),
        ("head", 7, As::Message(&OPERATION)),
        ("patch", 8, As::Message(&OPERATION)),
        ("parameters", 9, As::ChoiceEach(parameter)),
    ],
    extensions: 10,
};

static OPERATION: Form = Form {
    fields: &[
        ("tags", 1, As::TextEach),
        ("summary", 2, As::Text),
        ("description", 3, As::Text),
        ("operationId", 5, As::Text),
        ("produces", 6, As::TextEach),
        ("consumes", 7, As::TextEach),
        ("parameters", 8, As::ChoiceEach(parameter)),
        ("responses", 9, As::Named(1, &RESPONSE_VALUE)),
        ("schemes", 10, As::TextEach),
        ("deprecated", 11, As::Flag),
    ],
    extensions: 13,
};

/// `ParametersItem` holds a `Parameter`, which holds a body or one of four.
fn parameter(_: &Value) -> (u32, As) {
    (1, As::Choice(body_or_not))
}

fn body_or_not(parameter: &Value) -> (u32, As) {
    match parameter["in"].as_str() {
        Some("body") => (1, As::Message(&BODY_PARAMETER)),
        _ => (2, As::Choice(by_place)),
    }
}

fn by_place(parameter: &Value) -> (u32, As) {
    match parameter["in"].as_str() {
        Some("header") => (1, As::Message(&PATH_PARAMETER)),
        Some("path") => (4, As::Message(&PATH_PARAMETER)),
        _ => (3, As::Message(&QUERY_PARAMETER)),
    }
}

static BODY_PARAMETER: Form = Form {
    fields: &[
        ("description", 1, As::Text),
        ("name", 2, As::Text),
        ("in", 3, As::Text),
        ("required", 4, As::Flag),
        ("schema", 5, As::Message(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Form = Form {
    fields: &[
        ("required", 1, As::Flag),
        ("in", 2, As::Text),
        ("description", 3, As::Text),
        ("name", 4, As::Text),
        ("type", 6, As::Text),
        ("format", 7, As::Text),
        ("uniqueItems", 20, As::Flag),
    ],
    extensions: 23,
};

/// Parameters of headers have the same numbers.
static PATH_PARAMETER: Form = Form {
    fields: &[
        ("required", 1, As::Flag),
        ("in", 2, As::Text),
        ("description", 3, As::Text),
        ("name", 4, As::Text),
        ("type", 5, As::Text),
        ("format", 6, As::Text),
        ("uniqueItems", 19, As::Flag),
    ],
    extensions: 22,
};

static RESPONSE_VALUE: Form = Form { fields: &[("", 1, As::Message(&RESPONSE))], extensions: 0 };

static RESPONSE: Form = Form {
    fields: &[
        ("description", 1, As::Text),
        ("schema", 2, As::Choice(|_| (1, As::Message(&SCHEMA)))),
    ],
    extensions: 5,
};

static SCHEMA: Form = Form {
    fields: &[
        ("$ref", 1, As::Text),
        ("format", 2, As::Text),
        ("title", 3, As::Text),
        ("description", 4, As::Text),
        ("default", 5, As::Any),
        ("multipleOf", 6, As::Double),
        ("maximum", 7, As::Double),
        ("exclusiveMaximum", 8, As::Flag),
        ("minimum", 9, As::Double),
        ("exclusiveMinimum", 10, As::Flag),
        ("maxLength", 11, As::Int),
        ("minLength", 12, As::Int),
        ("pattern", 13, As::Text),
        ("maxItems", 14, As::Int),
        ("minItems", 15, As::Int),
        ("uniqueItems", 16, As::Flag),
        ("maxProperties", 17, As::Int),
        ("minProperties", 18, As::Int),
        ("required", 19, As::TextEach),
        ("enum", 20, As::AnyEach),
        ("additionalProperties", 21, As::Choice(schema_or_flag)),
        ("type", 22, As::Wrapped(&As::TextEach)),
        ("items", 23, As::Wrapped(&As::MessageEach(&SCHEMA))),
        ("allOf", 24, As::MessageEach(&SCHEMA)),
        ("properties", 25, As::Named(1, &SCHEMA)),
        ("example", 30, As::Any),
    ],
    extensions: 31,
};

fn schema_or_flag(value: &Value) -> (u32, As) {
    if value.is_boolean() { (2, As::Flag) } else { (1, As::Message(&SCHEMA)) }
}
