//! What is kept of one output stream, in bounded memory (divergence D3).

use std::collections::VecDeque;

/// Bytes of output that each stream may return; what one leaves over goes to the other
/// (divergence D3: 200 000 bytes per run).
pub(super) const SHARE: usize = 100_000;

/// The longest head, and the longest tail, that can be asked for: half of both shares.
const END: usize = SHARE;

/// Bytes of a UTF-8 sequence after the first, at most.
const CONTINUATION: usize = 3;

/// The first and the last bytes of a stream, as many as may be needed whatever the other stream
/// turns out to use.
#[derive(Debug, Default)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

/// What a stream's reader is shown.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Kept {
    pub(super) text: String,
    /// Bytes written to the stream.
    pub(super) total: u64,
    /// Whether the middle is missing.
    pub(super) is_cut: bool,
}

impl Capture {
    /// Takes in what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = END - self.head.len();
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);

        let (_, rest) = rest.split_at(rest.len().saturating_sub(END));
        let overflow = (self.tail.len() + rest.len()).saturating_sub(END);
        self.tail.drain(..overflow);
        self.tail.extend(rest);
    }

    /// How much of its own share the stream leaves over.
    pub(super) fn unused(&self) -> usize {
        usize::try_from(self.total).map_or(0, |total| SHARE.saturating_sub(total))
    }

    /// The stream's text: all of it if that is no more than `limit` bytes, else half of `limit`
    /// from each end with a line between that says how much is missing. `limit` is at most twice
    /// [`END`].
    pub(super) fn finish(self, limit: usize) -> Kept {
        let Self {
            head: mut bytes,
            tail,
            total,
        } = self;
        // Beyond twice END the middle is missing here, but then a tail that is asked for is whole.
        bytes.extend(tail);
        if total <= limit as u64 {
            return Kept {
                text: decode(bytes),
                total,
                is_cut: false,
            };
        }

        let head_length = limit / 2;
        let tail_start = bytes.len().saturating_sub(limit - head_length);
        let (head, _) = bytes.split_at(head_length.min(bytes.len()));
        let (_, tail) = bytes.split_at(tail_start);
        let (head, tail) = (without_broken_end(head), without_broken_start(tail));
        let missing = total - head.len() as u64 - tail.len() as u64;
        let text = format!(
            "{}\n... (truncated {missing} bytes) ...\n{}",
            String::from_utf8_lossy(head),
            String::from_utf8_lossy(tail)
        );
        Kept {
            text,
            total,
            is_cut: true,
        }
    }
}

fn decode(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// `bytes` without a UTF-8 sequence at the end whose rest was cut off.
fn without_broken_end(bytes: &[u8]) -> &[u8] {
    let lead = bytes
        .iter()
        .rev()
        .take(CONTINUATION)
        .position(|byte| !is_continuation(*byte));
    match lead.and_then(|following| bytes.split_at_checked(bytes.len() - following - 1)) {
        Some((complete, [lead, rest @ ..])) if continuation_bytes(*lead) > rest.len() => complete,
        _ => bytes,
    }
}

/// `bytes` without the rest of a UTF-8 sequence at the start whose beginning was cut off.
fn without_broken_start(bytes: &[u8]) -> &[u8] {
    let broken = bytes
        .iter()
        .take(CONTINUATION)
        .take_while(|byte| is_continuation(**byte))
        .count();
    bytes.split_at(broken).1
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// How many bytes follow this first byte of a UTF-8 sequence.
fn continuation_bytes(lead: u8) -> usize {
    match lead {
        0xc2..=0xdf => 1,
        0xe0..=0xef => 2,
        0xf0..=0xf4 => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(bytes: &[u8], chunk: usize) -> Capture {
        let mut capture = Capture::default();
        for part in bytes.chunks(chunk) {
            capture.push(part);
        }
        capture
    }

    /// Bytes by which a position can be told.
    fn numbered(length: usize) -> Vec<u8> {
        (0..)
            .flat_map(|line: u32| format!("{line}\n").into_bytes())
            .take(length)
            .collect()
    }

    #[test]
    fn a_stream_within_its_limit_is_kept_whole() {
        for length in [0, 1, END - 1, END, END + 1, 2 * END - 1, 2 * END] {
            for chunk in [1_000, 4_096, 65_536, 300_000] {
                let bytes = numbered(length);
                let kept = captured(&bytes, chunk).finish(2 * END);
                let whole = String::from_utf8(bytes).unwrap();
                assert_eq!(
                    kept,
                    Kept {
                        text: whole,
                        total: length as u64,
                        is_cut: false
                    }
                );
            }
        }
    }

    #[test]
    fn a_stream_over_its_limit_keeps_half_of_it_from_each_end() {
        let limits = [SHARE, SHARE + 1, SHARE + 4_321, 2 * SHARE - 2, 2 * SHARE];
        for (length, limit) in [100_001, 100_002, 150_000, 200_001, 200_002, 1_000_000]
            .into_iter()
            .flat_map(|length| limits.map(|limit| (length, limit)))
            .filter(|(length, limit)| length > limit)
        {
            for chunk in [777, 65_536, 300_000] {
                let bytes = numbered(length);
                let kept = captured(&bytes, chunk).finish(limit);
                let (head, tail) = (limit / 2, limit - limit / 2);
                let text = [
                    String::from_utf8(bytes[..head].to_vec()).unwrap(),
                    format!("\n... (truncated {} bytes) ...\n", length - limit),
                    String::from_utf8(bytes[length - tail..].to_vec()).unwrap(),
                ]
                .concat();
                assert_eq!(
                    kept,
                    Kept {
                        text,
                        total: length as u64,
                        is_cut: true
                    }
                );
            }
        }
    }

    #[test]
    fn what_is_held_does_not_grow_with_the_stream() {
        let mut capture = Capture::default();
        for _ in 0..1_000 {
            capture.push(&[b'a'; 65_536]);
        }
        assert_eq!((capture.head.len(), capture.tail.len()), (END, END));
        assert!(capture.head.capacity() + capture.tail.capacity() <= 6 * END);
        assert_eq!(capture.total, 65_536_000);
    }

    #[test]
    fn a_stream_leaves_over_what_it_does_not_use() {
        let table = [
            (0, SHARE),
            (1, SHARE - 1),
            (SHARE, 0),
            (SHARE + 1, 0),
            (5 * SHARE, 0),
        ];
        for (length, unused) in table {
            assert_eq!(captured(&vec![b'a'; length], 65_536).unused(), unused);
        }
    }

    #[test]
    fn a_cut_never_breaks_a_character() {
        for character in ["a", "é", "✓", "🦀"] {
            for shift in 0..4 {
                let text = "x".repeat(shift) + &character.repeat(120_000);
                let kept = captured(text.as_bytes(), 65_536).finish(SHARE + shift);
                let (head, rest) = kept.text.split_once("\n... (truncated ").unwrap();
                let (missing, tail) = rest.split_once(" bytes) ...\n").unwrap();
                assert!(
                    text.starts_with(head) && text.ends_with(tail),
                    "{character} {shift}"
                );
                assert!(!kept.text.contains('\u{fffd}'));
                let shown = head.len() + tail.len();
                assert!((SHARE + shift - shown) < 2 * character.len());
                assert_eq!(missing, (text.len() - shown).to_string());
            }
        }
    }

    #[test]
    fn ends_of_sequences_are_told_from_stray_bytes() {
        let ends: &[(&[u8], usize)] = &[
            (b"", 0),
            (b"ab", 2),
            (b"a\xc3", 1),
            (b"a\xc3\xa9", 3),
            (b"a\xe2\x9c", 1),
            (b"a\xe2\x9c\x93", 4),
            (b"a\xf0\x9f\xa6", 1),
            (b"a\xf0\x9f\xa6\x80", 5),
            (b"a\xff", 2),
            (b"\x80\x80\x80\x80\x80", 5),
            (b"\xe2", 0),
        ];
        for (bytes, kept) in ends {
            assert_eq!(without_broken_end(bytes).len(), *kept, "{bytes:x?}");
        }
        let starts: &[(&[u8], usize)] = &[
            (b"", 0),
            (b"ab", 2),
            (b"\xa9b", 1),
            (b"\x9c\x93b", 1),
            (b"\x9f\xa6\x80b", 1),
            (b"\xc3\xa9", 2),
            (b"\x80\x80\x80\x80\x80", 2),
        ];
        for (bytes, kept) in starts {
            assert_eq!(without_broken_start(bytes).len(), *kept, "{bytes:x?}");
        }
    }
}
