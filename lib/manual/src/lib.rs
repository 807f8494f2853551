//! Manual pages and shell completions of a command, made from its parser.
//!
//! Each command of this project writes its own when it is asked to by [`OPTION`], which no help shows: that is
//! how a package gets them, in step with what the command takes.

#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_complete::aot::generate_to;

/// The first argument that asks for a manual, before the folder that it goes to.
pub const OPTION: &str = "--write-manual";

/// Where shells look for completions, below a `share` folder.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/site-functions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

/// Writes the manual and ends the process, if its arguments ask for that; else does nothing.
pub fn on_request(command: impl FnOnce() -> Command) {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|first| first != OPTION) {
        return;
    }
    let (Some(share), None) = (args.next(), args.next()) else {
        return;
    };
    let command = command();
    let name = command.get_name().to_owned();
    let status = match write(command, share.as_ref()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{name}: {}: {error}", Path::new(&share).display());
            1
        }
    };
    std::process::exit(status);
}

/// Writes the pages of a command and of what it can be told to do, and the completions, below a `share` folder,
/// which is made.
///
/// # Errors
/// That a folder or a file can't be made.
pub fn write(mut command: Command, share: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let pages = share.join("man/man1");
    fs::create_dir_all(&pages)?;
    // Help on help is no page; completions, which come after, complete it.
    clap_mangen::generate_to(command.clone().disable_help_subcommand(true), &pages)?;
    for (shell, folder) in SHELLS {
        let folder = share.join(folder);
        fs::create_dir_all(&folder)?;
        let made = generate_to(shell, &mut command, &name, &folder)?;
        if shell == Shell::Bash {
            // There it is found by the name of the command alone.
            fs::rename(&made, folder.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ArgAction};

    #[test]
    fn pages_and_completions_name_every_option() {
        let command = Command::new("tool")
            .about("Does things")
            .arg(
                Arg::new("fast")
                    .long("fast")
                    .action(ArgAction::SetTrue)
                    .help("Be quick"),
            )
            .subcommand(Command::new("make").about("Makes things"));
        let share = tempfile::tempdir().unwrap();
        write(command, share.path()).unwrap();
        for (file, words) in [
            ("man/man1/tool.1", &["Does things", "fast", "Be quick"][..]),
            ("man/man1/tool-make.1", &["Makes things"]),
            ("bash-completion/completions/tool", &["--fast", "make"]),
            ("zsh/site-functions/_tool", &["--fast", "Makes things"]),
            ("fish/vendor_completions.d/tool.fish", &["fast", "make"]),
        ] {
            let text = fs::read_to_string(share.path().join(file)).unwrap();
            for word in words {
                assert!(text.contains(word), "{file} does not say {word}:\n{text}");
            }
        }
        let pages = fs::read_dir(share.path().join("man/man1")).unwrap();
        assert_eq!(pages.count(), 2);
    }
}
