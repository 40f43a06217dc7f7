select order_id, method, status as payment_status, amount
from {{ source('shop', 'payments') }}
