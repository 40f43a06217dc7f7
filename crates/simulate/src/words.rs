//! Names of people, places and things.

pub(crate) const FIRST_NAMES: &[&str] = &[
    "Ada", "Alan", "Amara", "Anna", "Ben", "Carla", "Chen", "Dana", "Diego", "Elena", "Emil", "Farah", "Felix",
    "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jonas", "Julia", "Kofi", "Lara", "Leon", "Lin", "Maria", "Mateo", "Mei",
    "Nadia", "Noah", "Olga", "Omar", "Paula", "Quinn", "Rosa", "Samir", "Sofia", "Theo", "Uma", "Wei", "Yuki",
];

pub(crate) const LAST_NAMES: &[&str] = &[
    "Adeyemi", "Almeida", "Becker", "Bianchi", "Castro", "Costa", "Diaz", "Dubois", "Eriksen", "Fischer", "Garcia",
    "Haddad", "Hansen", "Huang", "Ito", "Jensen", "Keller", "Kim", "Kowalski", "Larsen", "Li", "Lopez", "Martin",
    "Mensah", "Meyer", "Moreau", "Nagy", "Novak", "Okafor", "Patel", "Pereira", "Rossi", "Sato", "Silva", "Smith",
    "Tanaka", "Vega", "Virtanen", "Wagner", "Wang", "Weber", "Yilmaz", "Zhang",
];

pub(crate) const CITIES: &[&str] = &[
    "Accra",
    "Amsterdam",
    "Athens",
    "Barcelona",
    "Berlin",
    "Bogota",
    "Copenhagen",
    "Dublin",
    "Hamburg",
    "Helsinki",
    "Kyoto",
    "Lagos",
    "Lisbon",
    "Lyon",
    "Madrid",
    "Milan",
    "Nairobi",
    "Osaka",
    "Oslo",
    "Paris",
    "Porto",
    "Prague",
    "Seoul",
    "Shanghai",
    "Vienna",
    "Warsaw",
];

pub(crate) const BRANDS: &[&str] = &[
    "Alder",
    "Birch & Co",
    "Cobalt",
    "Driftwood",
    "Ember",
    "Fjord",
    "Grove",
    "Harbour",
    "Iris",
    "Juniper",
    "Kestrel",
    "Lumen",
];

pub(crate) const KINDS: &[&str] =
    &["Classic", "Compact", "Everyday", "Fine", "Large", "Light", "Little", "New", "Old", "Plain", "Soft", "Sturdy"];

pub(crate) const METHODS: &[&str] = &["wechat", "wechat", "wechat", "alipay", "alipay", "card", "wallet"];

pub(crate) const COUNTRIES: &[&str] = &["China", "Denmark", "France", "Germany", "Italy", "Japan", "Korea", "Spain"];

pub(crate) const CARRIERS: &[&str] = &["Swift", "Swift", "Swift", "Northpost", "Northpost", "Parcelo", "Ferry & Sons"];

/// Navigation icons of the home page, the best known first.
pub(crate) const ICONS: [&str; 10] =
    ["deals", "new", "coupons", "brands", "fashion", "home", "beauty", "food", "live", "membership"];

pub(crate) const TOPICS: &[&str] = &["delivery", "delivery", "refund", "product", "invoice", "address", "red packet"];

/// What reviews say, from one star to five.
pub(crate) const REVIEWS: [&[&str]; 5] = [
    &["Broke on the first day.", "Not what the picture shows.", "Never again."],
    &["Feels cheap for the price.", "Came late and scratched.", "The colour is off."],
    &["It does what it should.", "Fine, nothing special.", "Good, but the box was open."],
    &["Good value, would buy again.", "Solid, and quick to arrive.", "My mother likes it a lot."],
    &[
        "Could not be happier!",
        "Exactly as described, lovely.",
        "The best one I have had so far.",
        "Bought a second one.",
    ],
];

/// Things in each category.
pub(crate) const THINGS: i64 = 5;

/// Categories and the things in them.
pub(crate) const CATEGORIES: [(&str, [&str; 5]); 8] = [
    ("kitchen", ["pan", "kettle", "knife", "bowl", "mug"]),
    ("garden", ["spade", "pot", "hose", "lantern", "chair"]),
    ("books", ["notebook", "atlas", "diary", "cookbook", "novel"]),
    ("toys", ["puzzle", "kite", "train", "bear", "blocks"]),
    ("clothing", ["scarf", "jacket", "socks", "hat", "shirt"]),
    ("sports", ["ball", "racket", "mat", "bottle", "rope"]),
    ("electronics", ["lamp", "radio", "charger", "speaker", "camera"]),
    ("beauty", ["soap", "brush", "cream", "mirror", "towel"]),
];
