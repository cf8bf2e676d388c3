//! What of the chunks of one connection has come in part: the front of a header, and payloads.
//!
//! Owns the memory for it, which grows with what has come and never on a peer's word. Between
//! messages there is none, so that an idle connection holds nothing but the place for a pointer.
//! It knows no chunk: the reader says what belongs together. The larger steps are kept out of line,
//! so that a message that comes whole does not save registers for them.

use crate::limits::CHUNK_HEADER_BYTES_MAX;

/// Stands for "no assembly" where a place in the list is kept in one byte.
pub(super) const NO_ASSEMBLY: u8 = u8::MAX;
/// Buffers kept between messages: one for audio and one for video when they interleave.
pub(super) const SPARES_MAX: usize = 2;

const _: () = assert!(size_of::<Partial>() == size_of::<usize>());

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Partial(
    /// Invariant: `None` if there would be neither held bytes nor assemblies.
    Option<Box<Parts>>,
);

#[derive(Debug, Default)]
struct Parts {
    held: HeldBytes,
    assemblies: Vec<Assembly>,
}

/// A payload that has come in part, the one that was returned last, or a spare buffer.
#[derive(Debug, Default)]
struct Assembly {
    payload: Vec<u8>,
    /// Invariant: true exactly while one chunk stream refers to this place.
    in_use: bool,
}

impl Partial {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// Bytes that are allocated.
    pub(super) fn allocated_bytes(&self) -> usize {
        let Some(parts) = &self.0 else { return 0 };
        let payloads: usize = parts.assemblies.iter().map(|a| a.payload.capacity()).sum();
        size_of::<Parts>() + parts.assemblies.capacity() * size_of::<Assembly>() + payloads
    }

    /// Whether the front of a header, or what was taken for one, is held.
    pub(super) fn has_held(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| !parts.held.is_empty())
    }

    /// A copy of the held bytes, to be changed and held again.
    pub(super) fn held(&self) -> HeldBytes {
        self.0.as_ref().map_or(HeldBytes::EMPTY, |parts| parts.held)
    }

    /// Holds these bytes instead of those before.
    #[cold]
    pub(super) fn hold(&mut self, held: HeldBytes) {
        self.0.get_or_insert_default().held = held;
        self.give_back();
    }

    /// Finds a free place, the one with the largest spare buffer, or adds one.
    #[inline(never)]
    pub(super) fn claim(&mut self) -> u8 {
        let assemblies = &mut self.0.get_or_insert_default().assemblies;
        let free = assemblies.iter().enumerate().filter(|(_, assembly)| !assembly.in_use);
        let place = free.max_by_key(|(_, assembly)| assembly.payload.capacity()).map(|(i, _)| i);
        let place = place.unwrap_or_else(|| {
            assemblies.reserve_exact(1);
            assemblies.push(Assembly::default());
            assemblies.len() - 1
        });
        if let Some(assembly) = assemblies.get_mut(place) {
            assembly.in_use = true;
        }
        // There are never more places in use than chunk streams, of which there are at most 254.
        place as u8
    }

    /// Appends to an assembly what has come of its message, which is declared `length` bytes long.
    pub(super) fn append(&mut self, place: u8, taken: &[u8], length: usize) {
        if let Some(assembly) = self.assembly_mut(place) {
            assembly.append(taken, length);
        }
    }

    /// Frees the place of an assembly whose message is whole. Its payload stays until it is
    /// recycled.
    pub(super) fn finish(&mut self, place: u8) {
        if let Some(assembly) = self.assembly_mut(place) {
            assembly.in_use = false;
        }
    }

    /// What was put together at a place.
    pub(super) fn payload(&self, place: u8) -> Option<&[u8]> {
        let parts = self.0.as_ref()?;
        parts.assemblies.get(usize::from(place)).map(|assembly| &assembly.payload[..])
    }

    /// Keeps the buffer of a finished message for the next one, or frees it if it is larger than
    /// `spare_bytes_max` or there are enough.
    #[inline(never)]
    pub(super) fn recycle(&mut self, place: u8, spare_bytes_max: usize) {
        // The buffer in question is among those counted.
        let is_wanted = self.spares() <= SPARES_MAX;
        if let Some(Assembly { payload, .. }) = self.assembly_mut(place) {
            if is_wanted && payload.capacity() <= spare_bytes_max {
                payload.clear();
            } else {
                *payload = Vec::new();
            }
        }
        self.give_back();
    }

    /// Buffers of which no message is under assembly.
    pub(super) fn spares(&self) -> usize {
        let is_spare = |a: &&Assembly| !a.in_use && a.payload.capacity() > 0;
        self.0.as_ref().map_or(0, |parts| parts.assemblies.iter().filter(is_spare).count())
    }

    /// Forgets a message under assembly with its bytes.
    pub(super) fn forget(&mut self, place: u8) {
        if let Some(assembly) = self.assembly_mut(place) {
            *assembly = Assembly::default();
            self.give_back();
        }
    }

    /// Frees the spare buffers.
    pub(super) fn free_spares(&mut self) {
        let Some(parts) = &mut self.0 else { return };
        for assembly in parts.assemblies.iter_mut().filter(|assembly| !assembly.in_use) {
            assembly.payload = Vec::new();
        }
        self.give_back();
    }

    fn assembly_mut(&mut self, place: u8) -> Option<&mut Assembly> {
        self.0.as_mut()?.assemblies.get_mut(usize::from(place))
    }

    /// Cuts unused places off the end; the others keep theirs, since streams refer to them. What
    /// is empty then holds no memory.
    fn give_back(&mut self) {
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
    /// Grows with what has come: to twice of it at most, and never beyond the declared length.
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

/// The front of a chunk header whose rest has not come.
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

    /// Copies from the front of `input` until there is room for no more, and returns how much.
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
