//! Builds `toolbox` for embedding, and takes its programs' names from its table.

use std::fs;

fn main() {
    let elf = small_elf::build("toolbox", &[]);
    let table =
        fs::read_to_string("../toolbox/src/main.rs").expect("the toolbox's table of programs");
    let names: Vec<&str> = table
        .split("Command {")
        .filter_map(|row| row.trim_start().strip_prefix("name: \""))
        .filter_map(|row| row.split('"').next())
        .collect();
    assert!(names.contains(&"http-echo"), "the table of programs was not understood: {names:?}");
    let list = format!("&{names:?}");
    fs::write(elf.with_file_name("programs.rs"), list).expect("OUT_DIR can be written");
}
