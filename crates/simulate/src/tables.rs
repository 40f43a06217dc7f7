//! The shop's tables, as its database would have them.

use std::sync::LazyLock;

use relation::{Column, DataType, Layout, Schema};

/// A table of the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Users,
    Merchants,
    Brands,
    Categories,
    Products,
    Orders,
    OrderItems,
    Payments,
    Refunds,
    RedPackets,
    Shipments,
    Reviews,
    SupportTickets,
    PageEvents,
}

const MONEY: DataType = DataType::Decimal { precision: 12, scale: 2 };
const ID: DataType = DataType::Int64;
const TIME: DataType = DataType::Timestamp;
const TEXT: DataType = DataType::Text;

static LAYOUTS: LazyLock<[Layout; Table::ALL.len()]> =
    LazyLock::new(|| Table::ALL.map(|table| Layout::new(table.schema().types())));

impl Table {
    /// All of them, each after those it refers to.
    pub const ALL: [Self; 14] = [
        Self::Users,
        Self::Merchants,
        Self::Brands,
        Self::Categories,
        Self::Products,
        Self::Orders,
        Self::OrderItems,
        Self::Payments,
        Self::Refunds,
        Self::RedPackets,
        Self::Shipments,
        Self::Reviews,
        Self::SupportTickets,
        Self::PageEvents,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Merchants => "merchants",
            Self::Brands => "brands",
            Self::Categories => "categories",
            Self::Products => "products",
            Self::Orders => "orders",
            Self::OrderItems => "order_items",
            Self::Payments => "payments",
            Self::Refunds => "refunds",
            Self::RedPackets => "red_packets",
            Self::Shipments => "shipments",
            Self::Reviews => "reviews",
            Self::SupportTickets => "support_tickets",
            Self::PageEvents => "page_events",
        }
    }

    /// The table of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Where the columns of its rows lie.
    pub fn layout(self) -> &'static Layout {
        &LAYOUTS[self as usize]
    }

    /// Its columns and its primary key.
    pub fn schema(self) -> Schema {
        let key = if self == Self::OrderItems { vec![0, 1] } else { vec![0] };
        let column = |&(name, data_type): &(&str, DataType)| {
            let (name, nullable) = match name.strip_suffix('?') {
                Some(name) => (name, true),
                None => (name, false),
            };
            Column { nullable, ..Column::new(name, data_type) }
        };
        Schema::new(self.columns().iter().map(column).collect(), key)
    }

    /// Names and types of its columns; a name that ends in `?` may be NULL.
    fn columns(self) -> &'static [(&'static str, DataType)] {
        match self {
            Self::Users => &[
                ("user_id", ID),
                ("name", TEXT),
                ("email", TEXT),
                ("city", TEXT),
                ("origin", TEXT),
                ("registered_at", TIME),
            ],
            Self::Merchants => &[("merchant_id", ID), ("name", TEXT), ("city", TEXT)],
            Self::Brands => &[("brand_id", ID), ("name", TEXT), ("country", TEXT)],
            Self::Categories => &[("category_id", ID), ("parent_id?", ID), ("name", TEXT)],
            Self::Products => &[
                ("product_id", ID),
                ("name", TEXT),
                ("brand_id", ID),
                ("category_id", ID),
                ("merchant_id", ID),
                ("price", MONEY),
                ("stock", DataType::Int32),
            ],
            Self::Orders => &[
                ("order_id", ID),
                ("user_id", ID),
                ("channel", TEXT),
                ("status", TEXT),
                ("placed_at", TIME),
                ("paid_at?", TIME),
                ("shipped_at?", TIME),
                ("delivered_at?", TIME),
                ("closed_at?", TIME),
                ("goods", MONEY),
                ("freight", MONEY),
                ("discount", MONEY),
                ("total", MONEY),
                ("paid", MONEY),
                ("refunded", MONEY),
            ],
            Self::OrderItems => &[
                ("order_id", ID),
                ("line", DataType::Int32),
                ("product_id", ID),
                ("quantity", DataType::Int32),
                ("price", MONEY),
                ("amount", MONEY),
            ],
            Self::Payments => {
                &[("payment_id", ID), ("order_id", ID), ("method", TEXT), ("amount", MONEY), ("paid_at", TIME)]
            }
            Self::Refunds => {
                &[("refund_id", ID), ("order_id", ID), ("reason", TEXT), ("amount", MONEY), ("refunded_at", TIME)]
            }
            Self::RedPackets => &[
                ("packet_id", ID),
                ("user_id", ID),
                ("kind", TEXT),
                ("amount", MONEY),
                ("status", TEXT),
                ("order_id?", ID),
                ("issued_at", TIME),
                ("used_at?", TIME),
                ("expires_at", TIME),
            ],
            Self::Shipments => &[
                ("shipment_id", ID),
                ("order_id", ID),
                ("carrier", TEXT),
                ("status", TEXT),
                ("shipped_at", TIME),
                ("promised_at", TIME),
                ("delivered_at?", TIME),
            ],
            Self::Reviews => &[
                ("review_id", ID),
                ("order_id", ID),
                ("user_id", ID),
                ("product_id", ID),
                ("stars", DataType::Int16),
                ("text", TEXT),
                ("written_at", TIME),
            ],
            Self::SupportTickets => &[
                ("ticket_id", ID),
                ("user_id", ID),
                ("order_id", ID),
                ("topic", TEXT),
                ("status", TEXT),
                ("opened_at", TIME),
                ("closed_at?", TIME),
            ],
            Self::PageEvents => &[
                ("event_id", ID),
                ("user_id", ID),
                ("session_id", ID),
                ("channel", TEXT),
                ("event", TEXT),
                ("page", TEXT),
                ("icon?", TEXT),
                ("occurred_at", TIME),
            ],
        }
    }
}
