//! Chores of the project, one file a subcommand: `cargo run -p xtask -- NAME`.

use std::process::ExitCode;

mod codegen;
mod dist;
mod tidy;
mod toolchain;

/// A chore: name, what it does, and the function that does it.
type Chore = (&'static str, &'static str, fn(&[String]) -> Result<(), String>);

const CHORES: &[Chore] = &[
    ("codegen", "make the table of shapes from FOLDER (types.json, resources.json)", codegen::run),
    (
        "dist",
        "make a release in OUT: binaries, checksums, signature, contents, installer",
        dist::run,
    ),
    ("tidy", "check crate edges, absences and the shape of files", tidy::run),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let name = args.first().map_or("", String::as_str);
    let Some((_, _, run)) = CHORES.iter().find(|(chore, ..)| *chore == name) else {
        for (name, help, _) in CHORES {
            eprintln!("  {name:10} {help}");
        }
        return ExitCode::from(2);
    };
    match run(&args[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error}");
            ExitCode::FAILURE
        }
    }
}
