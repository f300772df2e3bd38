//! What users do, a file a story.

mod hello;
