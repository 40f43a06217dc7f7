select customer_id, name, email, city, created_at
from {{ source('shop', 'customers') }}
