//! A column in pages: a page is all there or not at all, and never changes once it is there.
//!
//! ```text
//!     page 0         page 1          page 2           page 3    page 4
//!     [a a b c c .]  [d d d d d d d  d d d d d d d d  d d]      [e e f ...
//!               ^    a run that is longer than a page has a page as long as itself; the numbers of the
//!               |    pages it covers are not used
//!               a run that does not fit begins a page: the rest of this one does not exist
//! ```
//!
//! An index into a column is the number of a page and the place in it. Reading one is an atomic load
//! and two bounds checks, without a lock.

use std::sync::OnceLock;

use super::BaseTree;

/// What a column is made of.
pub(super) trait Cell: Sized + 'static {
    /// The column's name, for messages.
    const COLUMN: &str;
    /// The column's place among all columns.
    const NUMBER: usize;
    /// A page has two to this many cells.
    const PAGE_BITS: u32;

    /// The column of a tree that is made of these.
    fn column(tree: &BaseTree) -> &Paged<Self>;

    /// Appends the cells of a page as an index stores them.
    fn encode(cells: &[Self], bytes: &mut Vec<u8>);

    /// The cells of page `number` of a tree's index. `None` if the bytes are no such page.
    fn decode(tree: &BaseTree, number: usize, bytes: &[u8]) -> Option<Box<[Self]>>;
}

/// How many cells a page has, unless one run is longer.
pub(super) const fn page_len<T: Cell>() -> usize {
    1 << T::PAGE_BITS
}

/// The page that an index is in, and where in it.
pub(super) fn place<T: Cell>(index: u32) -> (usize, usize) {
    let index = index as usize;
    (index >> T::PAGE_BITS, index & (page_len::<T>() - 1))
}

/// A column.
#[derive(Debug)]
pub(super) struct Paged<T> {
    pages: Box<[OnceLock<Box<[T]>>]>,
}

impl<T: Cell> Paged<T> {
    /// A column of this many pages, none of which is in memory.
    pub(super) fn absent(pages: usize) -> Self {
        let pages = (0..pages).map(|_| OnceLock::new());
        Self {
            pages: pages.collect(),
        }
    }

    /// How many pages there are.
    pub(super) fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// A page, if it is in memory.
    pub(super) fn page(&self, number: usize) -> Option<&[T]> {
        self.pages.get(number)?.get().map(|cells| &**cells)
    }

    /// Keeps a page, unless another thread was first: both are the same.
    pub(super) fn keep(&self, number: usize, cells: Box<[T]>) -> Option<&[T]> {
        Some(self.pages.get(number)?.get_or_init(|| cells))
    }
}

/// A column that is being made.
#[derive(Debug)]
pub(super) struct PagedBuilder<T> {
    full: Vec<Box<[T]>>,
    last: Vec<T>,
}

impl<T> Default for PagedBuilder<T> {
    fn default() -> Self {
        Self {
            full: Vec::new(),
            last: Vec::new(),
        }
    }
}

impl<T: Cell + Clone> PagedBuilder<T> {
    /// Appends cells that are to lie side by side, and says where they are. `None` if the column has
    /// more than 2^32 cells.
    pub(super) fn push_run(&mut self, run: &[T]) -> Option<u32> {
        if !self.last.is_empty() && self.last.len() + run.len() > page_len::<T>() {
            self.close();
        }
        let index = self.full.len() * page_len::<T>() + self.last.len();
        let index = u32::try_from(index).ok()?;
        self.last.extend_from_slice(run);
        if self.last.len() >= page_len::<T>() {
            self.close();
        }
        Some(index)
    }

    fn close(&mut self) {
        let next = Vec::with_capacity(page_len::<T>());
        let page = std::mem::replace(&mut self.last, next);
        let covered = page.len().div_ceil(page_len::<T>());
        self.full.push(page.into_boxed_slice());
        self.full.extend((1..covered).map(|_| Box::default()));
    }

    /// Cells that lie side by side, if there are so many there.
    pub(super) fn run(&self, first: u32, count: usize) -> Option<&[T]> {
        let (page, start) = place::<T>(first);
        let page = self.full.get(page).map_or(&*self.last, |page| page);
        page.get(start..start + count)
    }

    /// A cell.
    pub(super) fn cell(&self, index: u32) -> &T {
        let (page, at) = place::<T>(index);
        &self.full.get(page).map_or(&*self.last, |page| page)[at]
    }

    /// A cell, to change it.
    pub(super) fn cell_mut(&mut self, index: u32) -> &mut T {
        let (page, at) = place::<T>(index);
        match self.full.get_mut(page) {
            Some(page) => &mut page[at],
            None => &mut self.last[at],
        }
    }

    /// Moves each cell `i` to `to[i]`, which are all indices once, and then each to itself. Only for
    /// cells that were pushed one by one.
    pub(super) fn permute(&mut self, to: &mut [u32]) {
        for start in 0..to.len() as u32 {
            let mut target = to[start as usize];
            if target == start {
                continue;
            }
            let mut carried = self.cell_mut(start).clone();
            while target != start {
                std::mem::swap(self.cell_mut(target), &mut carried);
                target = std::mem::replace(&mut to[target as usize], target);
            }
            *self.cell_mut(start) = carried;
            to[start as usize] = start;
        }
    }

    pub(super) fn finish(mut self) -> Paged<T> {
        if !self.last.is_empty() {
            self.full.push(self.last.into_boxed_slice());
        }
        Paged {
            pages: self.full.into_iter().map(OnceLock::from).collect(),
        }
    }
}
