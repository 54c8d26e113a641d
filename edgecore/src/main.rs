//! The shipped binary: the supervisor, every module, and the configuration's converter in one file.

fn main() -> std::process::ExitCode {
    edgecore::main()
}
