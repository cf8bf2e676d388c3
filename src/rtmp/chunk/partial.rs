//! Buffers for the incomplete input of one connection: the front of a header, and partial payloads.
//!
//! The buffers grow with the bytes that arrive, never with a length that the peer declares. Between
//! messages nothing is allocated: an idle connection holds one null pointer. This module does not
//! know chunks; the reader decides which bytes belong together.
//!
//! The rare steps are `#[cold]` or `#[inline(never)]`. Inlined into the reader's loop, they make it
//! save registers that a message in one piece never uses: 3 % of its instructions.

use crate::limits::CHUNK_HEADER_BYTES_MAX;

/// Marks "no assembly" in a one-byte index.
pub(super) const NO_ASSEMBLY: u8 = u8::MAX;
/// Number of buffers kept between messages: one for audio and one for video when they interleave.
pub(super) const SPARES_MAX: usize = 2;

const _: () = assert!(size_of::<Partial>() == size_of::<usize>());

/// The incomplete input of one connection.
///
/// It lies behind one pointer because every session has a reader, and hardly any session sleeps
/// with a header or a message half received.
#[derive(Debug, Default)]
pub(super) struct Partial(
    /// Invariant: `None` while there are neither held bytes nor assemblies.
    Option<Box<Parts>>,
);

#[derive(Debug, Default)]
struct Parts {
    held: HeldBytes,
    assemblies: Vec<Assembly>,
}

/// A partial payload, the payload that was returned last, or a spare buffer.
#[derive(Debug, Default)]
struct Assembly {
    payload: Vec<u8>,
    /// Invariant: true exactly while one chunk stream refers to this assembly.
    in_use: bool,
}

impl Partial {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// Returns the allocated memory (bytes).
    pub(super) fn allocated_bytes(&self) -> usize {
        let Some(parts) = &self.0 else { return 0 };
        let payloads: usize = parts.assemblies.iter().map(|a| a.payload.capacity()).sum();
        size_of::<Parts>() + parts.assemblies.capacity() * size_of::<Assembly>() + payloads
    }

    /// Returns true if bytes are held that are, or may be, the front of a header.
    pub(super) fn has_held(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| !parts.held.is_empty())
    }

    /// Returns a copy of the held bytes. The caller changes it and stores it with
    /// [`Partial::hold`].
    pub(super) fn held(&self) -> HeldBytes {
        self.0.as_ref().map_or(HeldBytes::EMPTY, |parts| parts.held)
    }

    /// Replaces the held bytes.
    #[cold]
    pub(super) fn hold(&mut self, held: HeldBytes) {
        self.0.get_or_insert_default().held = held;
        self.shrink();
    }

    /// Reserves the free assembly with the largest spare buffer, or adds one. Returns its index.
    #[inline(never)]
    pub(super) fn claim(&mut self) -> u8 {
        let assemblies = &mut self.0.get_or_insert_default().assemblies;
        let free = assemblies.iter().enumerate().filter(|(_, assembly)| !assembly.in_use);
        let index = free.max_by_key(|(_, assembly)| assembly.payload.capacity()).map(|(i, _)| i);
        let index = index.unwrap_or_else(|| {
            assemblies.reserve_exact(1);
            assemblies.push(Assembly::default());
            assemblies.len() - 1
        });
        if let Some(assembly) = assemblies.get_mut(index) {
            assembly.in_use = true;
        }
        // An assembly in use belongs to one chunk stream, and there are at most 254 of those.
        index as u8
    }

    /// Appends received payload bytes to an assembly. `length` is the declared length of its
    /// message (bytes).
    pub(super) fn append(&mut self, index: u8, taken: &[u8], length: usize) {
        if let Some(assembly) = self.assembly_mut(index) {
            assembly.append(taken, length);
        }
    }

    /// Releases an assembly whose message is complete. Its payload stays readable until
    /// [`Partial::recycle`].
    pub(super) fn finish(&mut self, index: u8) {
        if let Some(assembly) = self.assembly_mut(index) {
            assembly.in_use = false;
        }
    }

    /// Returns the payload of an assembly.
    pub(super) fn payload(&self, index: u8) -> Option<&[u8]> {
        let parts = self.0.as_ref()?;
        parts.assemblies.get(usize::from(index)).map(|assembly| &assembly.payload[..])
    }

    /// Keeps the buffer of a finished message as a spare. Frees it if its capacity exceeds
    /// `spare_bytes_max` or if there are [`SPARES_MAX`] spares already.
    #[inline(never)]
    pub(super) fn recycle(&mut self, index: u8, spare_bytes_max: usize) {
        // This buffer itself is among the spares counted here.
        let is_wanted = self.spares() <= SPARES_MAX;
        if let Some(Assembly { payload, .. }) = self.assembly_mut(index) {
            if is_wanted && payload.capacity() <= spare_bytes_max {
                payload.clear();
            } else {
                *payload = Vec::new();
            }
        }
        self.shrink();
    }

    /// Returns the number of buffers that no message uses.
    pub(super) fn spares(&self) -> usize {
        let is_spare = |a: &&Assembly| !a.in_use && a.payload.capacity() > 0;
        self.0.as_ref().map_or(0, |parts| parts.assemblies.iter().filter(is_spare).count())
    }

    /// Drops an unfinished message and frees its buffer.
    pub(super) fn discard(&mut self, index: u8) {
        if let Some(assembly) = self.assembly_mut(index) {
            *assembly = Assembly::default();
            self.shrink();
        }
    }

    /// Frees the spare buffers.
    pub(super) fn free_spares(&mut self) {
        let Some(parts) = &mut self.0 else { return };
        for assembly in parts.assemblies.iter_mut().filter(|assembly| !assembly.in_use) {
            assembly.payload = Vec::new();
        }
        self.shrink();
    }

    fn assembly_mut(&mut self, index: u8) -> Option<&mut Assembly> {
        self.0.as_mut()?.assemblies.get_mut(usize::from(index))
    }

    /// Removes unused assemblies from the end of the list, and frees containers that are empty.
    ///
    /// Only the end is cut: chunk streams refer to assemblies by index, so the others cannot move.
    fn shrink(&mut self) {
        let Some(parts) = &mut self.0 else { return };
        let assemblies = &mut parts.assemblies;
        while assemblies.pop_if(|a| !a.in_use && a.payload.capacity() == 0).is_some() {}
        if !assemblies.is_empty() {
            return;
        }
        if parts.held.is_empty() {
            self.0 = None;
        } else {
            *assemblies = Vec::new();
        }
    }
}

impl Assembly {
    /// Appends `taken`. The buffer at most doubles, and never grows beyond the declared length.
    ///
    /// Reserving `length` at once is rejected: a peer would allocate 8 MiB with a 12-byte header.
    fn append(&mut self, taken: &[u8], length: usize) {
        let payload = &mut self.payload;
        let needed = payload.len() + taken.len();
        if needed > payload.capacity() {
            let target = (2 * payload.capacity()).min(length).max(needed);
            payload.reserve_exact(target - payload.len());
        }
        payload.extend_from_slice(taken);
    }
}

/// The front of an incomplete chunk header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeldBytes {
    bytes: [u8; CHUNK_HEADER_BYTES_MAX],
    len: u8,
}

impl HeldBytes {
    pub(super) const EMPTY: Self = Self { bytes: [0; CHUNK_HEADER_BYTES_MAX], len: 0 };

    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }

    /// Copies bytes from the front of `input` until the buffer is full. Returns the number of
    /// bytes copied.
    pub(super) fn fill(&mut self, input: &[u8]) -> usize {
        let room = self.bytes.get_mut(usize::from(self.len)..).unwrap_or_default();
        let taken = room.len().min(input.len());
        for (to, from) in room.iter_mut().zip(input) {
            *to = *from;
        }
        // At most 18 bytes are held.
        self.len += taken as u8;
        taken
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u8::try_from(len).unwrap_or(self.len));
    }

    pub(super) fn drop_front(&mut self, count: usize) {
        let count = count.min(self.len());
        self.bytes.copy_within(count.., 0);
        self.len -= count as u8;
    }
}
