//! The shop's tables, as its database would have them.

use relation::{Column, DataType, Schema};

/// A table of the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Customers,
    Products,
    Orders,
    OrderItems,
    Payments,
}

const MONEY: DataType = DataType::Decimal { precision: 12, scale: 2 };

impl Table {
    /// All of them, each after those it refers to.
    pub(super) const ALL: [Self; 5] = [Self::Customers, Self::Products, Self::Orders, Self::OrderItems, Self::Payments];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Customers => "customers",
            Self::Products => "products",
            Self::Orders => "orders",
            Self::OrderItems => "order_items",
            Self::Payments => "payments",
        }
    }

    /// The table of a name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Its columns and its primary key.
    pub(super) fn schema(self) -> Schema {
        let (columns, key) = match self {
            Self::Customers => (
                vec![
                    always("customer_id", DataType::Int64),
                    always("name", DataType::Text),
                    always("email", DataType::Text),
                    always("city", DataType::Text),
                    always("created_at", DataType::Timestamp),
                ],
                vec![0],
            ),
            Self::Products => (
                vec![
                    always("product_id", DataType::Int64),
                    always("name", DataType::Text),
                    always("category", DataType::Text),
                    always("brand", DataType::Text),
                    always("price", MONEY),
                ],
                vec![0],
            ),
            Self::Orders => (
                vec![
                    always("order_id", DataType::Int64),
                    always("customer_id", DataType::Int64),
                    always("status", DataType::Text),
                    always("placed_at", DataType::Timestamp),
                    Column::new("paid_at", DataType::Timestamp),
                    Column::new("shipped_at", DataType::Timestamp),
                    Column::new("delivered_at", DataType::Timestamp),
                    Column::new("closed_at", DataType::Timestamp),
                    always("total", MONEY),
                ],
                vec![0],
            ),
            Self::OrderItems => (
                vec![
                    always("order_id", DataType::Int64),
                    always("line", DataType::Int32),
                    always("product_id", DataType::Int64),
                    always("quantity", DataType::Int32),
                    always("price", MONEY),
                ],
                vec![0, 1],
            ),
            Self::Payments => (
                vec![
                    always("order_id", DataType::Int64),
                    always("method", DataType::Text),
                    always("status", DataType::Text),
                    always("amount", MONEY),
                ],
                vec![0],
            ),
        };
        Schema::new(columns, key)
    }
}

/// A column that is never NULL.
fn always(name: &str, data_type: DataType) -> Column {
    Column { nullable: false, ..Column::new(name, data_type) }
}
