-- Writes a portion's mark, if its session still delivers. ARGV: its token; then fields and values.
if redis.call('HGET', KEYS[1], 'session') ~= ARGV[1] then
  return redis.error_reply('FENCED another session delivers, or the marker is gone')
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 'OK'
