-- One row per order's customer record; a person with several orders has one customer_unique_id.
select
    customer_id,
    customer_unique_id,
    customer_zip_code_prefix as customer_zip,
    customer_city,
    customer_state
from {{ source('olist', 'customers') }}
