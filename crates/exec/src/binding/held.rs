//! The file that an approval is bound to, held open from the check until the command is over, so that
//! what was hashed is what runs.
//!
//! On Linux a file is handed over by its descriptor wherever that changes nothing that the command
//! can rely on:
//!
//! - A binary that is started directly is executed through `/proc/self/fd`. Its `argv[0]` stays, and
//!   what it finds out about its own path is the real one. Whatever its name means by then, the file
//!   that was hashed runs. A write into that very file is noticed by its time stamps up to the start,
//!   and once it runs the system refuses such writes.
//! - A script of `sh`, `dash`, `ash` or `bash` is read from a sealed copy in memory, which nothing can
//!   change: the shell is told to source it, with the script's own name as `$0`. bash scripts that ask
//!   where they were read from (`BASH_SOURCE`) are left to the next case.
//! - Every other interpreter opens its script by name, and would tell it another name than it has.
//!   Such a file is hashed again as the last thing before the start. What replaces it between that
//!   and the interpreter's own look is not noticed; nor is it where a wrapper stands before a binary,
//!   or on other systems.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use approvals::plan::FileOperand;

use super::BindingRefusal;
use super::operand::{is_unchanged, real_path};
use super::{mutability, operand};
use crate::run::HeldDescriptor;

mod handover;

pub(crate) use self::handover::{Handover, descriptor_path};

/// The largest script that is copied, in bytes. A larger one is no script that people write.
const MAX_SCRIPT_BYTES: u64 = 16 << 20;

/// A file that was hashed, and is the one that a plan names.
#[derive(Clone, Debug)]
pub(crate) struct HeldFile {
    operand: FileOperand,
    stamp: Stamp,
    content: Content,
}

/// Two holds on a plan's file are the same if the plans say the same about it.
impl PartialEq for HeldFile {
    fn eq(&self, other: &Self) -> bool {
        self.operand == other.operand
    }
}

impl Eq for HeldFile {}

#[derive(Clone, Debug)]
enum Content {
    /// A program for the machine itself, held open.
    Binary(HeldDescriptor),
    /// A text, held as a sealed copy where the system can do that.
    Script(Arc<Script>),
    /// Too large to be a script.
    Large,
}

#[derive(Debug)]
struct Script {
    bytes: Vec<u8>,
    copy: Option<HeldDescriptor>,
}

/// What changes whenever a file's content does, as far as the file system's clock can tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl HeldFile {
    /// Opens the file that word `operand.argv_index` of `argv` leads to, and hashes what was opened.
    ///
    /// # Errors
    /// [`BindingRefusal::OperandChanged`] if it is not what the plan says.
    pub(crate) fn open(
        operand: &FileOperand,
        argv: &[String],
        cwd: &Path,
    ) -> Result<Self, BindingRefusal> {
        Self::try_open(operand, argv, cwd).ok_or(BindingRefusal::OperandChanged)
    }

    fn try_open(operand: &FileOperand, argv: &[String], cwd: &Path) -> Option<Self> {
        let word = argv.get(operand.argv_index)?;
        let path = real_path(word, cwd).filter(|path| path.to_str() == Some(&operand.path))?;
        let mut file = operand::open(&path).ok()?;
        let metadata = file.metadata().ok().filter(Metadata::is_file)?;
        let stamp = Stamp::of(&metadata);
        let mut header = Vec::new();
        (&mut file)
            .take(mutability::HEADER_BYTES)
            .read_to_end(&mut header)
            .ok()?;
        if mutability::is_binary(&header) || metadata.size() > MAX_SCRIPT_BYTES {
            let is_binary = mutability::is_binary(&header);
            let sha256 = operand::hash_from(header, &mut file).ok()?;
            let is_same = Stamp::of(&file.metadata().ok()?) == stamp && sha256 == operand.sha256;
            return is_same.then(|| Self {
                operand: operand.clone(),
                stamp,
                content: if is_binary {
                    Content::Binary(HeldDescriptor::from(file))
                } else {
                    Content::Large
                },
            });
        }
        let mut bytes = header;
        (&mut file)
            .take(MAX_SCRIPT_BYTES)
            .read_to_end(&mut bytes)
            .ok()?;
        if operand::hash_from(bytes.clone(), &mut file).ok()? != operand.sha256 {
            return None;
        }
        Some(Self {
            operand: operand.clone(),
            stamp,
            content: Content::Script(Arc::new(Script {
                copy: handover::sealed_copy(&bytes),
                bytes,
            })),
        })
    }

    /// How the command that `argv` starts in `cwd` gets the file. The last thing before it is started.
    ///
    /// # Errors
    /// [`BindingRefusal::OperandChanged`] if it has changed since it was opened, where that matters.
    pub(crate) fn hand_over(
        &self,
        argv: &[String],
        cwd: &Path,
    ) -> Result<Handover, BindingRefusal> {
        let index = self.operand.argv_index;
        let by_descriptor = match &self.content {
            Content::Binary(descriptor) if index == 0 => handover::program(descriptor, argv),
            Content::Script(script) => script
                .copy
                .as_ref()
                .and_then(|copy| handover::script(copy, &script.bytes, argv, index)),
            Content::Binary(_) | Content::Large => None,
        };
        let is_same = match &by_descriptor {
            // A change that shows is refused, although it would not have run.
            Some(_) => self.is_untouched(argv, cwd),
            None => is_unchanged(&self.operand, argv, cwd),
        };
        if !is_same {
            return Err(BindingRefusal::OperandChanged);
        }
        Ok(by_descriptor.unwrap_or_else(|| Handover::by_name(argv)))
    }

    /// Whether the word still leads to the very file, and nothing wrote to that.
    fn is_untouched(&self, argv: &[String], cwd: &Path) -> bool {
        argv.get(self.operand.argv_index)
            .and_then(|word| real_path(word, cwd))
            .filter(|path| path.to_str() == Some(&self.operand.path))
            .and_then(|path| path.metadata().ok())
            .is_some_and(|now| Stamp::of(&now) == self.stamp)
    }
}
