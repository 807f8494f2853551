//! A progress bar for those who wait in front of a terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// Inputs smaller than this are done before a bar could be read.
const WORTH_A_BAR: u64 = 64 << 20;

/// Shown on standard error while it lives, if that is a terminal and the input is large.
pub struct Progress(ProgressBar);

impl Progress {
    /// For an input of this length; 0 if it is not known.
    pub fn new(len: u64) -> Self {
        match len {
            WORTH_A_BAR.. if io::stderr().is_terminal() => {
                let style = "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
                let style = ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                Self(ProgressBar::new(len).with_style(style))
            }
            _ => Self(ProgressBar::hidden()),
        }
    }

    /// Prints something while the bar is out of the way.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }

    /// This much more of the input is done.
    pub fn advance(&self, len: u64) {
        self.0.inc(len);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
