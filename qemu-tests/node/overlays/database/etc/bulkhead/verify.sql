SELECT 'integrity ' || integrity_check FROM pragma_integrity_check;
SELECT 'rows ' || count(*) || ' to ' || max(n) FROM t;
SELECT 'wrong ' || count(*) FROM t WHERE body != replace(hex(zeroblob(200)), '00', printf('%08d', n));
