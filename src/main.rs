//! The binary `offload`: the program with the kinds that ship.

fn main() -> std::process::ExitCode {
    offload::Program::new().run()
}
