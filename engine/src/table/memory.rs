//! The table's memory: one anonymous mapping, in transparent huge pages where the kernel has them.
//!
//! Pages come when they are first touched, so a table costs what it holds, not what it could hold.
//! Under loom and Miri the memory is a `Vec`. This is the table's only file with `unsafe`.

use std::ops::Deref;

use super::CapacityError;
#[cfg(not(any(loom, miri)))]
pub(super) use mapped::Memory;

/// Types for which memory full of zero bytes is a valid value, without a destructor that matters.
///
/// # Safety
///
/// An implementor consists of atomic integers only and has no `Drop`.
pub(super) unsafe trait Zeroed: Default + Sync {}

// SAFETY: an array of AtomicU64.
unsafe impl Zeroed for super::entry::Entry {}
// SAFETY: an array of AtomicU64.
unsafe impl Zeroed for super::entry::Wide {}
// SAFETY: an array of AtomicU64.
unsafe impl Zeroed for super::index::Bucket {}
// SAFETY: an array of AtomicU64.
unsafe impl Zeroed for super::free::Block {}

/// Starts to load the cache line of `items[at]`; nothing when there is no such item.
#[inline(always)]
pub(super) fn prefetch<T>(items: &[T], at: usize) {
    let Some(item) = items.get(at) else { return };
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    // SAFETY: a prefetch of an address inside a live slice; it changes nothing but caches.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(item).cast());
    }
    #[cfg(all(target_arch = "aarch64", not(any(loom, miri))))]
    // SAFETY: as above; the instruction reads no register but the address and writes none.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) item, options(nostack, preserves_flags));
    }
    let _ = item;
}

#[cfg(not(any(loom, miri)))]
mod mapped {
    use std::io;
    use std::ptr::NonNull;

    use super::{CapacityError, Deref, Zeroed};

    /// Huge pages' size on x86-64 and most of aarch64; the mapping starts on a multiple of it.
    const HUGE: usize = 2 << 20;

    /// `len` items, zero at first, in a mapping of their own.
    pub(in super::super) struct Memory<T> {
        map: NonNull<u8>,
        map_bytes: usize,
        items: NonNull<T>,
        len: usize,
    }

    // SAFETY: the mapping is owned by this value alone and is not tied to a thread.
    unsafe impl<T: Send> Send for Memory<T> {}
    // SAFETY: it gives out shared references only, to items that are Sync.
    unsafe impl<T: Sync> Sync for Memory<T> {}

    impl<T: Zeroed> Memory<T> {
        /// Maps room for `len` items.
        ///
        /// # Errors
        ///
        /// [`CapacityError::Map`] when the address space or a limit of the process has no room.
        pub(in super::super) fn new(len: usize) -> Result<Self, CapacityError> {
            let bytes = len.checked_mul(size_of::<T>()).ok_or_else(no_room)?;
            let map_bytes = bytes.checked_add(HUGE).ok_or_else(no_room)?;
            let map = map(map_bytes)?;
            let skip = map.as_ptr().align_offset(HUGE);
            // SAFETY: skip < HUGE, so both start and end of the items lie inside the mapping.
            let items = unsafe { map.add(skip) };
            // SAFETY: the range is inside our own mapping. A refusal only means small pages.
            unsafe { libc::madvise(items.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
            Ok(Self { map, map_bytes, items: items.cast(), len })
        }
    }

    fn no_room() -> CapacityError {
        CapacityError::Map(io::ErrorKind::OutOfMemory.into())
    }

    fn map(bytes: usize) -> Result<NonNull<u8>, CapacityError> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing
        // that exists.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(CapacityError::Map(io::Error::last_os_error()));
        }
        NonNull::new(map.cast()).ok_or_else(no_room)
    }

    impl<T> Deref for Memory<T> {
        type Target = [T];

        #[inline(always)]
        fn deref(&self) -> &[T] {
            // SAFETY: `new` mapped len items there, aligned to HUGE, zero is valid for them
            // (Zeroed), and the mapping lives as long as self.
            unsafe { std::slice::from_raw_parts(self.items.as_ptr(), self.len) }
        }
    }

    impl<T> Drop for Memory<T> {
        fn drop(&mut self) {
            // SAFETY: exactly what `new` mapped; no reference outlives self.
            unsafe { libc::munmap(self.map.as_ptr().cast(), self.map_bytes) };
        }
    }
}

/// `len` items, zero at first.
#[cfg(any(loom, miri))]
pub(super) struct Memory<T>(Vec<T>);

#[cfg(any(loom, miri))]
impl<T: Zeroed> Memory<T> {
    pub(super) fn new(len: usize) -> Result<Self, CapacityError> {
        Ok(Self((0..len).map(|_| T::default()).collect()))
    }
}

#[cfg(any(loom, miri))]
impl<T> Deref for Memory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}
