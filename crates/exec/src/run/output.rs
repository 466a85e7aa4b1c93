//! Reading both outputs of a command at full speed.

use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::process::{ChildStderr, ChildStdout};

use super::capture::{Capture, Kept, SHARE};

/// Bytes read at a time: what a pipe holds on Linux. On the stack, so that waiting runs own none.
const READ: usize = 64 * 1024;

/// Reads in a row from one output before the other one gets its turn.
const READS_PER_TURN: usize = 16;

/// Both outputs of a running command.
#[derive(Debug)]
pub(super) struct Output {
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
}

/// What is kept of both outputs.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) stdout: Kept,
    pub(super) stderr: Kept,
    /// Why reading ended before the output did.
    pub(super) failure: Option<Errno>,
}

impl Output {
    pub(super) fn new(stdout: Option<ChildStdout>, stderr: Option<ChildStderr>) -> Self {
        Self {
            stdout: Stream::new(stdout),
            stderr: Stream::new(stderr),
        }
    }

    /// Reads until every process has closed both outputs.
    pub(super) async fn read_to_end(&mut self) {
        poll_fn(|context| self.poll_read_to_end(context)).await;
    }

    /// Waits for `event` and keeps reading meanwhile, so that the command never waits for us.
    pub(super) async fn alongside<T>(&mut self, event: impl Future<Output = T>) -> T {
        let mut event = pin!(event);
        poll_fn(|context| {
            // The event comes first: reading may use up what tokio lets a task do in one turn, and
            // then a timeout would never be noticed while a command writes without end.
            let result = event.as_mut().poll(context);
            if result.is_pending() {
                let _ = self.poll_read_to_end(context);
            }
            result
        })
        .await
    }

    /// What is kept: each stream has its share, and what one does not use goes to the other
    /// (divergence D3).
    pub(super) fn finish(self) -> Captured {
        let unused_by_stdout = self.stdout.capture.unused();
        let unused_by_stderr = self.stderr.capture.unused();
        Captured {
            stdout: self.stdout.capture.finish(SHARE + unused_by_stderr),
            stderr: self.stderr.capture.finish(SHARE + unused_by_stdout),
            failure: self.stdout.failure.or(self.stderr.failure),
        }
    }

    fn poll_read_to_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let stdout = self.stdout.poll_read_to_end(context);
        let stderr = self.stderr.poll_read_to_end(context);
        ready!(stdout);
        stderr
    }
}

#[derive(Debug)]
struct Stream<Pipe> {
    /// `None` once everything was read.
    pipe: Option<Pipe>,
    capture: Capture,
    failure: Option<Errno>,
}

impl<Pipe: AsyncRead + Unpin> Stream<Pipe> {
    fn new(pipe: Option<Pipe>) -> Self {
        Self {
            pipe,
            capture: Capture::default(),
            failure: None,
        }
    }

    fn poll_read_to_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(pipe) = &mut self.pipe else {
            return Poll::Ready(());
        };
        let mut bytes = [const { MaybeUninit::uninit() }; READ];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        for _ in 0..READS_PER_TURN {
            buffer.clear();
            let read = ready!(Pin::new(&mut *pipe).poll_read(context, &mut buffer));
            if let Err(error) = &read {
                self.failure = Some(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw));
            }
            if read.is_err() || buffer.filled().is_empty() {
                self.pipe = None;
                return Poll::Ready(());
            }
            self.capture.push(buffer.filled());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
