//! The Rust messages and the `.proto` files say the same.
//!
//! Field by field of the text: names, numbers and types. What only the files
//! have (messages between servers) is for those who come to need it.

use std::collections::{BTreeMap, BTreeSet};

type Messages = BTreeMap<String, BTreeSet<String>>;

/// `message.field = number type` of a `.proto` file, in the words of prost.
fn from_proto(text: &str) -> Messages {
    let mut messages = Messages::new();
    let mut path: Vec<String> = Vec::new();
    for line in text.lines().map(|line| line.split("//").next().unwrap_or("").trim()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["message" | "enum" | "service" | "oneof", name, "{"] => path.push(name.to_owned()),
            ["message", name, "{}"] => {
                messages.entry(name.to_owned()).or_default();
            }
            ["}"] => {
                path.pop();
            }
            [.., name, "=", number] if !path.is_empty() && !line.starts_with("syntax") => {
                let number = number.trim_end_matches(';');
                let message = path.last().expect("inside a message");
                messages.entry(message.clone()).or_default().insert(format!("{name} = {number}"));
            }
            _ => {}
        }
    }
    messages
}

/// The same of the Rust file.
fn from_rust(text: &str) -> Messages {
    let mut messages = Messages::new();
    let mut message = String::new();
    let mut tag: Option<String> = None;
    for line in text.lines().map(str::trim) {
        let name_of = |rest: &str| rest.split(['(', ' ', '{', ':']).next().unwrap_or("").to_owned();
        if let Some(rest) = line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum ")) {
            message = name_of(rest);
            messages.entry(message.clone()).or_default();
        } else if let Some((_, rest)) =
            line.split_once(" tag = \"").or(line.split_once("(tag = \""))
        {
            tag = rest.split('"').next().map(str::to_owned);
        } else if let Some(tag) = tag.take() {
            let field = name_of(line.trim_start_matches("pub "));
            messages
                .entry(message.clone())
                .or_default()
                .insert(format!("{} = {tag}", snake(&field)));
        }
    }
    messages
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(character.to_ascii_lowercase());
    }
    text
}

#[test]
fn rust_and_proto_agree() {
    let rust = include_str!("proto.rs");
    let (store, raft) = rust.split_once("pub mod raft_v1").expect("both packages");
    let store_proto = include_str!("../../../proto/skiff/store/v1/store.proto");
    let raft_proto = include_str!("../../../proto/skiff/raft/v1/raft.proto");
    for (rust, proto) in [(store, store_proto), (raft, raft_proto)] {
        let (rust, proto) = (from_rust(rust), from_proto(proto));
        assert!(rust.len() > 8);
        for (message, fields) in rust.into_iter().filter(|(_, fields)| !fields.is_empty()) {
            // A oneof is an enum of its own in Rust, named like its field.
            let found = proto.get(&message).or_else(|| proto.get(&snake(&message)));
            let found = found.unwrap_or_else(|| panic!("{message} is in no .proto file"));
            assert!(fields.is_subset(found), "{message}: {fields:?} and {found:?}");
            let plain = found.iter().filter(|field| !field.starts_with("KIND_")).count();
            assert_eq!(fields.len(), plain, "{message}: {fields:?} and {found:?}");
        }
    }
}
