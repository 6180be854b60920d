//! The `orion` program; everything is in the library, where tests reach it.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(orion_server::run(std::env::args_os()))
}
