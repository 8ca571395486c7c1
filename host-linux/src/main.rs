//! The `bulkhead` command: arguments in, exit code out. Everything else is in the library.

fn main() -> std::process::ExitCode {
    bulkhead::cli::main(std::env::args_os())
}
