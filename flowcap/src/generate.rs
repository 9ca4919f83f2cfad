//! Manual pages and completions, made from the flags; for packages.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;

/// Writes `flowcap.1`, a page for each subcommand, and completions for bash, zsh and fish into a folder.
pub(crate) fn generate(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut command = Args::command();
    clap_mangen::generate_to(command.clone(), folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "flowcap", folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_completions_of_all_commands() {
        let folder = tempfile::tempdir().unwrap();
        generate(folder.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(read("flowcap.1").contains("idle\\-timeout"));
        assert!(read("flowcap-sockets.1").contains("baseline"));
        assert!(!read("flowcap.1").contains("generate"), "what is hidden stays so");
        for completion in ["flowcap.bash", "_flowcap", "flowcap.fish"] {
            assert!(read(completion).contains("idle-timeout"), "{completion}");
        }
    }
}
