//! Every type and field is described, and nothing that is not there.

use std::collections::BTreeSet;

use crate::{descriptions, schema};

#[test]
fn every_type_and_field_is_described() {
    let (schema, descriptions) = (schema(), descriptions());
    let mut missing = Vec::new();
    let mut there = BTreeSet::new();
    for id in schema.ids() {
        let name = schema.name(id);
        there.insert((name, ""));
        if descriptions.of_type(&schema, id).is_empty() {
            missing.push(name.to_owned());
        }
        for field in schema.fields(id) {
            let field_name = schema.field_name(field);
            there.insert((name, field_name));
            if descriptions.of_field(&schema, id, field).is_empty() {
                missing.push(format!("{name}.{field_name}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new(), "to be added to descriptions/");
    let unknown: Vec<_> = descriptions
        .names()
        .filter(|(of_type, field)| *of_type != "*" && !there.contains(&(of_type, field)))
        .collect();
    assert_eq!(unknown, [], "described but not there");
}
