//! The walk's models, and how a project of them changes. `$name` is a table of the shop, `@name` another model.

use testkit::Rng;

pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
    /// Whether the server can answer the same SQL with the same rows.
    pub(crate) in_server: bool,
}

const fn model(name: &'static str, sql: &'static str) -> Model {
    Model { name, sql, in_server: true }
}

pub(crate) const MODELS: &[Model] = &[
    model("m_large", "select id, customer_id, status, amount from $orders where status <> 'new' and amount > 50"),
    model(
        "m_status",
        "select status, count(*) as n, sum(amount) as total, min(amount) as low, max(amount) as high, \
         max(placed) as newest, count(distinct customer_id) as buyers from $orders group by status",
    ),
    model(
        "m_buyers",
        "select customer_id, count(*) as n, sum(amount) as total, min(id) as first_order from $orders \
         where customer_id is not null group by customer_id having count(*) > 1",
    ),
    model("m_sizes", "select n, count(*) as buyers, max(total) as best from @m_buyers group by n"),
    model(
        "m_wide",
        "select o.id, o.amount, c.city, c.credit from $orders o join $customers c on o.customer_id = c.id \
         where o.status = 'paid'",
    ),
    model(
        "m_customers",
        "select c.id, c.name, count(o.id) as n, sum(o.amount) as total from $customers c \
         left join $orders o on o.customer_id = c.id group by c.id, c.name",
    ),
    model(
        "m_over_credit",
        "select c.id, o.id as order_id, o.amount from $customers c \
         left join $orders o on o.customer_id = c.id and o.amount > c.credit where c.id % 5 = 0",
    ),
    model(
        "m_with_paid",
        "select c.id from $customers c where exists \
         (select 1 from $orders o where o.customer_id = c.id and o.status = 'paid')",
    ),
    model(
        "m_lapsed",
        "select c.id, c.city from $customers c where not exists (select 1 from $orders o where o.customer_id = c.id)",
    ),
    model("m_open", "select id from $orders where customer_id not in (select customer_id from $blocked)"),
    model(
        "m_products",
        "select i.product, count(*) as n_lines, sum(i.qty) as pieces, sum(i.qty * i.price) as value, \
         count(distinct o.customer_id) as buyers from $order_items i join $orders o on o.id = i.order_id group by i.product",
    ),
    model(
        "m_best_two",
        "select customer_id, id, amount from (select customer_id, id, amount, row_number() over \
         (partition by customer_id order by coalesce(amount, -1) desc, id) as rn from $orders where customer_id is not null) t where rn <= 2",
    ),
    model("m_top", "select id, amount from $orders where amount is not null order by amount desc, id limit 20"),
    model(
        "m_moves",
        "select customer_id, kind from $events where customer_id > 10 \
         union all select customer_id, status from $orders where status = 'void'",
    ),
    model(
        "m_kinds",
        "select kind, count(*) as n, count(distinct customer_id) as who, max(at) as newest from $events group by kind",
    ),
    model(
        "m_friends",
        "select a.id, b.name as friend, b.city from $customers a join $customers b on a.referrer = b.id \
         where a.city = b.city or b.city is null",
    ),
    Model {
        name: "m_rates",
        // Fails where qty is 0; the server has NULL there.
        sql: "select order_id, line, 100 / qty as rate from $order_items",
        in_server: false,
    },
];

/// Other texts that models have at times.
const OTHERS: &[(&str, &str)] = &[
    ("m_large", "select id, amount, status from $orders where amount > 120"),
    ("m_status", "select status, count(*) as n, max(amount) as high from $orders group by status"),
    (
        "m_buyers",
        "select customer_id, count(*) as n, sum(amount) as total from $orders \
         where customer_id is not null group by customer_id having count(*) > 3",
    ),
    (
        "m_wide",
        "select o.id, c.city, c.credit, c.name from $orders o join $customers c on o.customer_id = c.id \
         where o.status = 'sent'",
    ),
    (
        "m_customers",
        "select c.id, c.city, count(o.id) as n from $customers c left join $orders o on o.customer_id = c.id \
         and o.status <> 'void' group by c.id, c.city",
    ),
    ("m_top", "select id, amount, status from $orders where amount is not null order by amount desc, id limit 35"),
    ("m_kinds", "select kind, count(*) as pieces from $events group by kind"),
    (
        "m_products",
        "select i.product, sum(i.qty) as pieces, max(i.price) as dearest from $order_items i \
         left join $orders o on o.id = i.order_id group by i.product",
    ),
];

/// Models that nobody reads: they come and go.
const LOOSE: &[&str] = &["m_large", "m_wide", "m_top", "m_moves", "m_friends", "m_lapsed"];

/// What a model is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    First,
    Other,
    Absent,
}

/// The project as it stands on disk: the text of each model, and a number in one of them that tells which project it is.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    texts: Vec<Text>,
    pub(crate) version: usize,
}

impl Project {
    pub(crate) fn first() -> Self {
        Self { texts: vec![Text::First; MODELS.len()], version: 1 }
    }

    /// The next one: some models have other texts, some come or go.
    pub(crate) fn changed(&self, rng: &mut Rng, version: usize) -> Self {
        let mut next = Self { texts: self.texts.clone(), version };
        for _ in 0..rng.between(1, 4) {
            let at = rng.below(MODELS.len());
            let name = MODELS[at].name;
            let mut texts = vec![Text::First];
            texts.extend(OTHERS.iter().any(|(other, _)| *other == name).then_some(Text::Other));
            texts.extend(LOOSE.contains(&name).then_some(Text::Absent));
            next.texts[at] = *rng.pick(&texts);
        }
        next
    }

    /// Name, text, and whether the server can answer it.
    pub(crate) fn models(&self) -> Vec<(&'static str, String, bool)> {
        let texts = MODELS.iter().zip(&self.texts);
        let present = texts.filter_map(|(model, text)| match text {
            Text::First => Some((model.name, model.sql.to_owned(), model.in_server)),
            Text::Other => {
                let other = OTHERS.iter().find(|(name, _)| *name == model.name)?;
                Some((model.name, other.1.to_owned(), model.in_server))
            }
            Text::Absent => None,
        });
        present.chain([("m_version", format!("select {} as version from $marks", self.version), true)]).collect()
    }

    /// Models that are not there.
    pub(crate) fn absent(&self) -> Vec<&'static str> {
        let texts = MODELS.iter().zip(&self.texts);
        texts.filter(|(_, text)| **text == Text::Absent).map(|(model, _)| model.name).collect()
    }

    /// The SQL over the database's own names, models written out.
    pub(crate) fn for_server(&self, sql: &str) -> String {
        self.models().iter().fold(sql.replace('$', ""), |sql, (name, text, _)| {
            let reference = format!("@{name}");
            match sql.contains(&reference) {
                true => sql.replace(&reference, &format!("({}) written", self.for_server(text))),
                false => sql,
            }
        })
    }
}

/// The SQL as a dbt project has it.
pub(crate) fn for_project(sql: &str) -> String {
    let mut out = String::new();
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '$' && c != '@' {
            out.push(c);
            continue;
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        let reference = if c == '$' { format!("source('shop', '{name}')") } else { format!("ref('{name}')") };
        out.push_str(&format!("{{{{ {reference} }}}}"));
    }
    out
}
