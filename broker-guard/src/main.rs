//! The `sealbus` command. Everything is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    sealbus_guard::cli::main()
}
