//! Manual pages and completions, made from the flags; for packages.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::args::Args;

/// Writes `flowcap.1`, a page for each subcommand, and completions for bash, zsh and fish into a folder.
pub(crate) fn generate(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let whole = Args::command();
    clap_mangen::generate_to(whole.clone(), folder)?;
    // Pages leave out what is hidden; completions do not, so they are made of a command without it.
    let mut command = Command::new("flowcap")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(whole.get_arguments())
        .groups(whole.get_groups())
        .subcommands(whole.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()));
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
        let command = Args::command();
        let hidden: Vec<_> =
            command.get_subcommands().filter(|subcommand| subcommand.is_hide_set()).collect();
        assert!(!hidden.is_empty());
        for completion in ["flowcap.bash", "_flowcap", "flowcap.fish"] {
            let text = read(completion);
            assert!(text.contains("idle-timeout") && text.contains("baseline"), "{completion}");
            let has = |word: &str| {
                text.split(|c: char| !c.is_alphanumeric() && c != '-').any(|found| found == word)
            };
            assert!(has("sockets"), "{completion}");
            for subcommand in &hidden {
                assert!(!has(subcommand.get_name()), "{completion} has {}", subcommand.get_name());
            }
        }
    }
}
