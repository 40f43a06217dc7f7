select
    shipment_id,
    order_id,
    carrier,
    status,
    shipped_at,
    promised_at,
    delivered_at,
    coalesce(delivered_at > promised_at, false) as is_late
from {{ source('shop', 'shipments') }}
