select
    review_id,
    order_id,
    user_id,
    product_id,
    stars,
    text,
    written_at
from {{ source('shop', 'reviews') }}
