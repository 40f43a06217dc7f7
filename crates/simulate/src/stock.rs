//! Pieces of each product: taken by orders, given back by cancellations, counted and filled up at midnight.

use crate::catalogue::{Catalogue, PRODUCTS};
use crate::order::Order;

/// The stock.
#[derive(Debug, Clone)]
pub(crate) struct Stock {
    pieces: Vec<i64>,
}

/// A product's pieces changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) product: i64,
    pub(crate) before: i64,
    pub(crate) after: i64,
}

impl Stock {
    /// As it is after the count.
    pub(crate) fn counted(catalogue: &Catalogue) -> Self {
        Self { pieces: (1..=PRODUCTS).map(|product| catalogue.product(product).level).collect() }
    }

    /// Pieces of a product.
    pub(crate) fn of(&self, product: i64) -> i64 {
        self.pieces[crate::index(product - 1)]
    }

    /// An order takes its pieces; where they would not do, the merchant brings new ones first.
    pub(crate) fn take(&mut self, catalogue: &Catalogue, order: &Order, mut each: impl FnMut(Moved)) {
        for line in order.lines() {
            if self.of(line.product) < line.quantity {
                each(self.set(line.product, self.of(line.product) + catalogue.product(line.product).level));
            }
            each(self.set(line.product, self.of(line.product) - line.quantity));
        }
    }

    /// A cancelled order's pieces come back.
    pub(crate) fn give_back(&mut self, order: &Order, mut each: impl FnMut(Moved)) {
        for line in order.lines() {
            each(self.set(line.product, self.of(line.product) + line.quantity));
        }
    }

    /// The count: every product is filled up, or what is too much is sent back.
    pub(crate) fn count(&mut self, catalogue: &Catalogue, mut each: impl FnMut(Moved)) {
        for product in 1..=PRODUCTS {
            let level = catalogue.product(product).level;
            if self.of(product) != level {
                each(self.set(product, level));
            }
        }
    }

    fn set(&mut self, product: i64, after: i64) -> Moved {
        let before = std::mem::replace(&mut self.pieces[crate::index(product - 1)], after);
        Moved { product, before, after }
    }
}
