//! What the shop sells, by whom, and for how much.

use crate::cells::{Cells, Digits};
use crate::dice::{Dice, Topic};
use crate::words;
use crate::{DAY, HOUR, SECOND};

/// Products of the shop.
pub(crate) const PRODUCTS: i64 = 10_000;
/// Merchants that sell them.
pub(crate) const MERCHANTS: i64 = 300;
/// A product's price is looked over every so often.
pub(crate) const REPRICING: i64 = 7 * DAY;

/// What of a product never changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) brand: i64,
    kind: i64,
    merchant: i64,
    list_cents: i64,
    /// Pieces after the daily count.
    pub(crate) level: i64,
    /// When in the week its price is looked over. Odd, so that it never falls on the whole second of a sale.
    pub(crate) repriced_us: i64,
    thing: &'static str,
    manner: &'static str,
}

/// The products of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    seed: u64,
    products: Vec<Product>,
}

pub(crate) fn brands() -> i64 {
    crate::length(words::BRANDS.len())
}

/// The day's turn of a brand's sales: they begin and end at ten, each brand some seconds after the one before.
pub(crate) fn sale_us(brand: i64) -> i64 {
    10 * HOUR + brand * SECOND
}

impl Catalogue {
    pub(crate) fn new(seed: u64) -> Self {
        let product = |number| {
            let mut dice = Dice::new(seed, Topic::Product, number);
            let (brand, kind) = (1 + dice.low(brands()), dice.below(KINDS));
            let merchant = 1 + dice.low(MERCHANTS);
            let list_cents = dice.between(900, 9_700);
            let level = dice.between(30, 600);
            let repriced_us = dice.below(REPRICING / 2) * 2 + 1;
            let things = words::CATEGORIES[crate::index(kind / THINGS)].1;
            let thing = things[crate::index(kind % THINGS)];
            let manner = dice.pick(words::KINDS);
            Product { brand, kind, merchant, list_cents, level, repriced_us, thing, manner }
        };
        Self { seed, products: (1..=PRODUCTS).map(product).collect() }
    }

    pub(crate) fn product(&self, number: i64) -> &Product {
        &self.products[crate::index(number - 1)]
    }

    /// Whether a brand is on sale.
    fn is_on_sale(&self, brand: i64, at_us: i64) -> bool {
        let turn = (at_us - sale_us(brand)).div_euclid(DAY);
        Dice::new(self.seed, Topic::Sale, turn * 64 + brand).chance(6)
    }

    /// Whether a brand's sale begins or ends at a time.
    pub(crate) fn sale_turns(&self, brand: i64, at_us: i64) -> bool {
        self.is_on_sale(brand, at_us - 1) != self.is_on_sale(brand, at_us)
    }

    /// A product's price at a time.
    pub(crate) fn cents(&self, number: i64, at_us: i64) -> i64 {
        let product = self.product(number);
        let turn = (at_us - product.repriced_us).div_euclid(REPRICING);
        let percent = Dice::new(self.seed, Topic::Price, number * 1_000_000 + turn).between(85, 115);
        let sale = if self.is_on_sale(product.brand, at_us) { 80 } else { 100 };
        // Prices end in 9, as they do.
        product.list_cents * percent * sale / 100_000 * 10 + 9
    }

    pub(crate) fn product_cells(&self, number: i64, stock: i64, now_us: i64, cells: &mut Cells<'_>) {
        let product = self.product(number);
        cells.number(number).texts(&[product.manner, " ", product.thing, " ", Digits::of(number).as_str()]);
        cells.number(product.brand).number(categories_above() + product.kind + 1).number(product.merchant);
        cells.number(self.cents(number, now_us)).integer(stock);
    }

    pub(crate) fn merchant_cells(&self, number: i64, cells: &mut Cells<'_>) {
        let mut dice = Dice::new(self.seed, Topic::Merchant, number);
        let (name, city) = (dice.pick(words::LAST_NAMES), dice.pick(words::CITIES));
        cells.number(number).texts(&[name, " Trading ", Digits::of(number).as_str()]).text(city);
    }

    pub(crate) fn brand_cells(&self, number: i64, cells: &mut Cells<'_>) {
        let country = Dice::new(self.seed, Topic::Brand, number).pick(words::COUNTRIES);
        cells.number(number).text(words::BRANDS[crate::index(number - 1)]).text(country);
    }

    /// First the categories above, then those in them.
    pub(crate) fn category_cells(number: i64, cells: &mut Cells<'_>) {
        cells.number(number);
        match number - 1 - categories_above() {
            above if above < 0 => cells.null().text(words::CATEGORIES[crate::index(number - 1)].0),
            kind => {
                let (parent, thing) = (kind / THINGS, kind % THINGS);
                let name = words::CATEGORIES[crate::index(parent)].1[crate::index(thing)];
                cells.number(parent + 1).text(name)
            }
        };
    }
}

/// Kinds of things in each category.
const THINGS: i64 = words::THINGS;
const KINDS: i64 = 8 * THINGS;

fn categories_above() -> i64 {
    crate::length(words::CATEGORIES.len())
}

/// Categories of both levels.
pub(crate) fn categories() -> i64 {
    categories_above() + KINDS
}
