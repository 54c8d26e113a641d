//! The program; see [`minicloud::cli`].

fn main() -> anyhow::Result<()> {
    minicloud::cli::main()
}
