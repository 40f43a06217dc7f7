select
    brand_id,
    name as brand,
    country
from {{ source('shop', 'brands') }}
