//! A sparse file in memory, of which copies cost next to nothing; what is done with it, and random
//! numbers.

// Each test uses a part of it.
#![allow(dead_code)]

pub mod cuts;
pub mod direct;

use rand_core::{TryCryptoRng, TryRng};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

pub const PAGE: usize = 4096;

/// Pages that share what was not changed since they were copied. What is not there is zeros.
#[derive(Clone, Default)]
pub struct Pages {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    len: u64,
}

impl Pages {
    pub fn len(&self) -> u64 {
        self.len
    }

    /// As pread(2).
    pub fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let len = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..len];
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = (at % PAGE as u64) as usize;
            let part = (PAGE - within).min(len - done);
            let to = &mut buf[done..done + part];
            match self.pages.get(&(at / PAGE as u64)) {
                Some(page) => to.copy_from_slice(&page[within..within + part]),
                None => to.fill(0),
            }
            done += part;
        }
        len
    }

    /// As pwrite(2).
    pub fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = (at % PAGE as u64) as usize;
            let part = (PAGE - within).min(bytes.len() - done);
            let page = self
                .pages
                .entry(at / PAGE as u64)
                .or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    /// As ftruncate(2).
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE as u64));
            let within = (len % PAGE as u64) as usize;
            if let Some(page) = self.pages.get_mut(&(len / PAGE as u64)) {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }
}

/// What a program does with a file.
#[derive(Clone, Debug)]
pub enum Op {
    Write { at: usize, len: usize },
    SetLen(usize),
    Punch { at: usize, len: usize },
    Fsync,
    Checkpoint,
    Close,
}

/// Bytes to write.
pub fn filling(fill: u64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (fill >> (i % 7)) as u8 ^ i as u8)
        .collect()
}

/// SplitMix64: repeatable, for tests only.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.next() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for part in dst.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Random {}
