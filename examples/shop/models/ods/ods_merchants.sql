select
    merchant_id,
    name as merchant,
    city
from {{ source('shop', 'merchants') }}
