//! Arguments and environment, as programs are given them.

use crate::state::HostState;
use wasmtime::Caller;

/// Result of the functions below for an address that is not the program's, as Lind has it.
pub const BAD_ADDRESS: i32 = 14;

/// An offset as the address that [`crate::memory::GuestMemory`] takes.
pub fn address(caller: &Caller<'_, HostState>, offset: i32) -> u64 {
    caller.data().image.memory.base() + u64::from(offset as u32)
}

/// Writes how many strings there are, and how many bytes with their NULs.
pub fn strings_sizes(
    caller: &Caller<'_, HostState>,
    strings: &[Vec<u8>],
    count_at: i32,
    size_at: i32,
) -> i32 {
    let memory = &caller.data().image.memory;
    let size: usize = strings.iter().map(|string| string.len() + 1).sum();
    let written = memory
        .write(
            address(caller, count_at),
            &(strings.len() as u32).to_le_bytes(),
        )
        .and_then(|()| memory.write(address(caller, size_at), &(size as u32).to_le_bytes()));
    written.map_or(BAD_ADDRESS, |()| 0)
}

/// Writes the strings with their NULs, and the list of their addresses.
pub fn strings_get(
    caller: &Caller<'_, HostState>,
    strings: &[Vec<u8>],
    list_at: i32,
    bytes_at: i32,
) -> i32 {
    let mut list = Vec::with_capacity(4 * strings.len());
    let mut bytes = Vec::new();
    for string in strings {
        let at = (bytes_at as u32).wrapping_add(bytes.len() as u32);
        list.extend_from_slice(&at.to_le_bytes());
        bytes.extend_from_slice(string);
        bytes.push(0);
    }
    let memory = &caller.data().image.memory;
    let written = memory
        .write(address(caller, list_at), &list)
        .and_then(|()| memory.write(address(caller, bytes_at), &bytes));
    written.map_or(BAD_ADDRESS, |()| 0)
}
