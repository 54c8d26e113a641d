//! Standard output: whether it takes colours is decided here and nowhere else, and here is noticed
//! that nobody looks any more.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Read as _, StdoutLock, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM, SIGWINCH};

use crate::failure::Failure;

/// What a piece of text means; how that looks is the business of [`Style`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// Ordinary text.
    Plain,
    /// As it should be.
    Good,
    /// On its way, or of less use than wished.
    Fair,
    /// Broken.
    Bad,
    /// Of no interest now.
    Faint,
    /// A heading.
    Strong,
}

/// Whether meanings are shown as colours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// Without colours.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colour: false };

    /// Returns the text in the colour of its meaning.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> Cow<'_, str> {
        let code = match paint {
            Paint::Plain => return text.into(),
            _ if !self.colour || text.is_empty() => return text.into(),
            Paint::Good => 32,
            Paint::Fair => 33,
            Paint::Bad => 31,
            Paint::Faint => 2,
            Paint::Strong => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m").into()
    }
}

/// Returns the text with control characters made visible: what a message or a log brings must not
/// steer the operator's terminal.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '\t' => shown.push(' '),
            _ if letter.is_control() => shown.extend(letter.escape_default()),
            _ => shown.push(letter),
        }
    }
    shown.into()
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    out: StdoutLock<'static>,
    terminal: bool,
    style: Style,
    /// Whether a live view has the whole terminal.
    taken: bool,
}

/// Returns how wide the terminal is, in letters.
pub(crate) fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
    match size.map_or(0, |size| usize::from(size.ws_col)) {
        // Some serial consoles do not tell.
        0 => 80,
        columns => columns,
    }
}

impl Screen {
    /// Looks at standard output and at what the operator said of colours.
    pub(crate) fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let terminal = io::stdout().is_terminal();
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        // The convention of no-color.org: any value but the empty one means no.
        let colour = terminal && !dumb && set("NO_COLOR").is_none();
        let (terminal, style) = (terminal && !dumb, Style { colour });
        Self { out: io::stdout().lock(), terminal, style, taken: false }
    }

    /// Takes the whole terminal for a live view, without its cursor; what was there before comes back
    /// when the screen is dropped.
    pub(crate) fn take_over(&mut self) -> Result<(), Failure> {
        self.out.write_all(b"\x1b[?1049h\x1b[?25l\x1b[2J")?;
        self.taken = true;
        Ok(())
    }

    /// Tells whether what was printed can be printed over.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Returns how meanings are shown.
    pub(crate) const fn style(&self) -> Style {
        self.style
    }

    /// Prints a JSON document over several lines.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Prints a JSON document on one line.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(io::Error::from)?;
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Puts a text in the place of the one before it, cut to the size of the terminal.
    pub(crate) fn redraw(&mut self, text: &str) -> Result<(), Failure> {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
        let rows = size.map_or(usize::MAX, |size| usize::from(size.ws_row.max(2)));
        // Written over from the top instead of wiped, so that nothing flickers; the wrapping of
        // long lines is off meanwhile. The last row stays free for the cursor.
        let mut frame = String::from("\x1b[H\x1b[?7l");
        for line in text.lines().take(rows - 1) {
            frame.push_str(line);
            frame.push_str("\x1b[K\n");
        }
        frame.push_str("\x1b[J\x1b[?7h");
        self.out.write_all(frame.as_bytes())?;
        Ok(self.out.flush()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.taken {
            // A terminal that is gone needs nothing back.
            let _gone = self.out.write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l");
            let _gone = self.out.flush();
        }
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// One of the sources has something to read, or ended.
    Ready,
    /// The time is up.
    Elapsed,
    /// The terminal has another size.
    Resized,
    /// Nobody looks any more: Ctrl-C, or the reader of standard output is gone.
    Ended,
}

/// The wait of a live view.
#[derive(Debug)]
pub(crate) struct View {
    interrupted: UnixStream,
    resized: UnixStream,
}

impl View {
    /// From here on Ctrl-C ends the view and not the process, so that the view can sum up and give the
    /// terminal back; other requests to end do the same.
    pub(crate) fn begin() -> Result<Self, Failure> {
        let begin = || {
            let (interrupted, signal) = UnixStream::pair()?;
            for ending in [SIGINT, SIGTERM] {
                signal_hook::low_level::pipe::register(ending, signal.try_clone()?)?;
            }
            let (resized, signal) = UnixStream::pair()?;
            resized.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(SIGWINCH, signal)?;
            Ok(Self { interrupted, resized })
        };
        begin()
            .map_err(|error: io::Error| Failure::Failed(format!("cannot catch signals: {error}")))
    }

    /// Waits until one of the sources has something, at most `within`.
    pub(crate) fn wait(
        &self,
        sources: &[BorrowedFd<'_>],
        within: Option<Duration>,
    ) -> Result<Wake, Failure> {
        let stdout = rustix::stdio::stdout();
        // Without a wish for events only the reader's end is told.
        let mut polled = vec![
            PollFd::new(&self.interrupted, PollFlags::IN),
            PollFd::new(&stdout, PollFlags::empty()),
            PollFd::new(&self.resized, PollFlags::IN),
        ];
        polled.extend(sources.iter().map(|source| PollFd::new(source, PollFlags::IN)));
        let count = wait(&mut polled, within)?;
        let happened = |polled: &PollFd<'_>| !polled.revents().is_empty();
        let (over, resized) = (polled[..2].iter().any(happened), happened(&polled[2]));
        if resized {
            // However often: the size is looked at once.
            let _drained = (&self.resized).read(&mut [0; 64]);
        }
        Ok(match count {
            _ if over => Wake::Ended,
            _ if resized => Wake::Resized,
            0 => Wake::Elapsed,
            _ => Wake::Ready,
        })
    }
}

/// Lets `time` pass between two questions to the supervisor.
pub(crate) fn pause(time: Duration) -> Result<(), Failure> {
    wait(&mut [], Some(time)).map(drop)
}

fn wait(polled: &mut [PollFd<'_>], within: Option<Duration>) -> Result<usize, Failure> {
    let within = within.map(|time| Timespec::try_from(time).unwrap_or_default());
    loop {
        match poll(polled, within.as_ref()) {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::Failed(format!("cannot wait for events: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_made_visible() {
        assert_eq!(harmless("a/\x1b[2J\tb\r"), "a/\\u{1b}[2J b\\r");
        assert_eq!(harmless("gerät"), "gerät");
    }

    #[test]
    fn colours_stand_around_the_text_only_where_wanted() {
        assert_eq!(Style::PLAIN.paint(Paint::Bad, "held"), "held");
        assert_eq!(Style { colour: true }.paint(Paint::Bad, "held"), "\x1b[31mheld\x1b[0m");
        assert_eq!(Style { colour: true }.paint(Paint::Plain, "held"), "held");
    }
}
